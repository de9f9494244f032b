"""From YAML text to a frozen `StudySpec`, every fault of the file named at its place. Writes nothing."""
