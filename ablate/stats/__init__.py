"""Arrays in, estimates out. Knows no study, no file and no frame; every method names its source."""
