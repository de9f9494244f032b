"""MLflow: one run per trained part, in the experiment named after the
study; at MLFLOW_TRACKING_URI, or in `mlflow.db` in the study's folder."""

import os
import re
from collections.abc import Mapping

from mlflow.tracking import MlflowClient

from ablate.integrations.registry import Run

KEY = "ablate.key"  # a later attempt finds its run by this tag
VALUE_CHARACTERS = 500  # MLflow's limit for the value of a parameter
_NOT_ALLOWED = re.compile(r"[^\w\-. /]")  # in MLflow's names


class MlflowRun:
    """One run of an experiment."""

    def __init__(self, run: Run) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.folder / 'mlflow.db'}"
        self._client = MlflowClient(uri)
        existing = self._client.get_experiment_by_name(run.study)
        experiment = existing.experiment_id if existing else self._client.create_experiment(run.study)
        earlier = self._client.search_runs([experiment], f"tags.`{KEY}` = '{run.key}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        self._id = self._client.create_run(experiment, run_name=run.name, tags={KEY: run.key}).info.run_id
        for name, value in run.config.items():
            self._client.log_param(self._id, _allowed(name), str(value)[:VALUE_CHARACTERS])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point."""
        for name, value in metrics.items():
            self._client.log_metric(self._id, _allowed(name), value, step=step)

    def close(self, metrics: Mapping[str, float] | None) -> None:
        """End the run."""
        for name, value in (metrics or {}).items():
            self._client.log_metric(self._id, _allowed(f"final/{name}"), value)
        self._client.set_terminated(self._id, "KILLED" if metrics is None else "FINISHED")


def _allowed(name: str) -> str:
    return _NOT_ALLOWED.sub("_", name)


def open_tracker(run: Run) -> MlflowRun:
    """Return the run: that of an earlier attempt, if there is one."""
    return MlflowRun(run)
