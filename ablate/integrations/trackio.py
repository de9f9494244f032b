"""Trackio: one run per trained part, in the project named after the study; `trackio show` opens them."""

from collections.abc import Mapping

import trackio

from ablate.integrations.registry import Run


class TrackioRun:
    """One run of a project."""

    def __init__(self, run: Run) -> None:
        self._run = trackio.init(
            project=run.study, name=run.name, config=dict(run.config), resume="allow", embed=False
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point."""
        self._run.log(dict(metrics), step=step)

    def close(self, metrics: Mapping[str, float] | None) -> None:
        """End the run."""
        if metrics:
            self._run.log({f"final/{name}": value for name, value in metrics.items()})
        self._run.finish()  # type: ignore[no-untyped-call]


def open_tracker(run: Run) -> TrackioRun:
    """Return the run: that of an earlier attempt, if there is one."""
    return TrackioRun(run)
