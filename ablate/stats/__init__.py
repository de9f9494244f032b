"""Statistics: arrays in, estimates out. Knows no study, file or data frame; every method cites its source."""
