"""What a reviewer would object to: one file per kind of rule; `rules` lists them all."""
