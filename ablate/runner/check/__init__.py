"""`ablate check`: is a trainer sound? Trains parts of a study several times over, each in its own process, and compares."""
