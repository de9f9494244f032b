"""The content of the report by section: rows of cells, effects, trials; without markup or pictures."""
