"""One file per task, and the heads, losses and metrics that tasks consist of."""
