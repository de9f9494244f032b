"""What a reviewer would object to: one file per kind of rule; `registry` lists them all."""
