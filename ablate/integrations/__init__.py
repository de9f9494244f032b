"""Trackers that a study may log its curves to as well: `log_to: [tensorboard, mlflow, wandb, trackio]`."""
