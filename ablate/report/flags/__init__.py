"""What a reviewer would object to: one file per kind of rule, all of them listed in `rules`."""
