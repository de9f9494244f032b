"""Weights & Biases: one run per trained part, in the project named after the study; WANDB_MODE=offline keeps it local."""

from collections.abc import Mapping

import wandb

from ablate.integrations.registry import Run


class WandbRun:
    """One run of a project."""

    def __init__(self, run: Run) -> None:
        self._run = wandb.init(
            project=run.study,
            name=run.name,
            id=run.key,
            config=dict(run.config),
            dir=str(run.folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point."""
        self._run.log(dict(metrics), step=step)

    def close(self, metrics: Mapping[str, float] | None) -> None:
        """End the run."""
        for name, value in (metrics or {}).items():
            self._run.summary[f"final/{name}"] = value
        self._run.finish(exit_code=0 if metrics is not None else 1)


def open_tracker(run: Run) -> WandbRun:
    """Return the run: that of an earlier attempt, if there is one."""
    return WandbRun(run)
