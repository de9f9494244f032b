"""What the report says, section by section: rows of cells, effects, trials; no markup and no picture."""
