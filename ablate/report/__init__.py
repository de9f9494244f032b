"""From a store, read-only, to tables, plots, flags and sentences."""
