"""The study file: from YAML text to a frozen `StudySpec`, every fault reported with its line and column."""
