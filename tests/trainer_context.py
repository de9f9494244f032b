"""A small honest context for training in tests, and settings that take a fraction of a second."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.contract import Stopped
from ablate.trainer import Settings

SMALL_DATA = {
    task: {"limit": {"train": 21, "dev": 12, "test": 12}}
    for task in ("sentiment", "paraphrase", "similarity")
}


def small(**settings: Any) -> Settings:
    """Return settings for five steps on a few items of the built-in corpus."""
    sizes = {"sentiment": 3, "paraphrase": 4, "similarity": 5}
    base = {"data": SMALL_DATA, "max_steps": 5, "batch_size": sizes, "dense_size": 8, "max_length": 24}
    return Settings.model_validate({**base, **settings})


class Notebook:
    """Writes everything down; stops after a given step, as a run does that is asked to stop."""

    device = "cpu"
    attempt = 1
    gpus: Sequence[str] = ()

    def __init__(
        self, folder: Path, seed: int = 11, stop_after: int | None = None, state: Any = None
    ) -> None:
        self.seed, self.stop_after, self.state = seed, stop_after, state
        self.workdir, self.cache = folder / "work", folder.parent / "cache"
        self.facts: dict[str, Any] = {}
        self.points: list[tuple[int, dict[str, float]]] = []
        self.ends: dict[str, tuple[int, Any, Any]] = {}  # prefix -> its last step, state and points
        self.predicted: dict[tuple[str, str], tuple[list[str], list[float], list[float]]] = {}
        self.clusters: dict[tuple[str, str], list[str] | None] = {}

    def restore(self) -> Any:
        return copy.deepcopy(self.state)

    def checkpoint(self, step: int, state: Any) -> None:
        if step == self.stop_after:
            self.state = copy.deepcopy(state())
            raise Stopped

    def prefix(self, name: str, step: int, state: Any) -> None:
        self.ends[name] = (step, copy.deepcopy(state()), copy.deepcopy(self.points))

    def stopping(self) -> bool:
        return False

    def report(self, step: int, metrics: Any) -> None:
        self.points.append((step, dict(metrics)))

    def predictions(
        self, split: str, task: str, ids: Any, predicted: Any, gold: Any, clusters: Any = None
    ) -> None:
        self.predicted[split, task] = (list(ids), list(predicted), list(gold))
        self.clusters[split, task] = clusters

    @property
    def weights(self) -> str:
        return (self.workdir / "weights.json").read_text()

    def curve(self, name: str) -> dict[int, float]:
        return {step: metrics[name] for step, metrics in self.points if name in metrics}
