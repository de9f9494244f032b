"""What is trained: one file per task, and the heads, losses and metrics that tasks are made of."""
