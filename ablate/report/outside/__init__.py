"""The report's statistics for other people's files: `ablate analyze` and `ablate compare`."""
