"""From YAML text to a frozen `StudySpec`, with every fault of the file named at its place. Reads; writes nothing."""
