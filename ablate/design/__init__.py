"""From a `StudySpec` to the ordered cells to run. Pure: no clock, no files, no randomness."""
