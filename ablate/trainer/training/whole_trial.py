"""A whole trial in one call, to use the trainer without a study: with `training: separate`, its parts one after another.

A study trains the same parts through `parts()`, each once for all trials that need it; the results are bit-identical.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ablate.contract import Context
from ablate.trainer.parts import combine, parts
from ablate.trainer.settings import Settings
from ablate.trainer.training.loop import train_part


def train(settings: Settings, context: Context) -> dict[str, float]:
    """Train `settings` to the end and return `dev/<task>`, `dev/mean` and, with `select: best`, `...@last`."""
    if settings.training == "separate" and len(settings.tasks) > 1:
        return _in_turn(settings, context)
    return train_part(settings, context)


def _in_turn(settings: Settings, context: Context) -> dict[str, float]:
    """Train each part in its own folder of `context.workdir` and return the metrics of all."""
    saved = context.restore() or {"done": {}, "part": None, "state": None, "begins": 0}
    done: dict[str, dict[str, float]] = {name: dict(metrics) for name, metrics in saved["done"].items()}
    begins = int(saved["begins"])
    for name, part in parts(settings).items():
        if name in done:
            continue
        state = saved["state"] if saved["part"] == name else None
        part_context = _PartContext(context, name, done, begins, state)
        done[name] = train_part(part, part_context)
        begins += part_context.steps
    return combine(settings, done)


class _PartContext:
    """The context of one part, within the context of the whole trial."""

    def __init__(
        self,
        outer: Context,
        name: str,
        done: Mapping[str, dict[str, float]],
        begins: int,
        state: dict[str, Any] | None,
    ) -> None:
        self.seed, self.device, self.cache = outer.seed, outer.device, outer.cache
        self.facts = outer.facts.setdefault(name, {})
        self.workdir: Path = outer.workdir / name
        self.steps = 0
        self.predictions = outer.predictions
        self.attempt, self.gpus, self.stopping = outer.attempt, outer.gpus, outer.stopping
        self._outer, self._begins, self._state = outer, begins, state
        self._saved = {"done": dict(done), "part": name, "begins": begins}

    def restore(self) -> dict[str, Any] | None:
        return self._state

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        self.steps = step
        self._outer.checkpoint(self._begins + step, lambda: {**self._saved, "state": state()})

    def prefix(self, *what: Any) -> None:
        # The names of prefixes are those of a part, and the outer context is a whole trial's.
        return None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._outer.report(self._begins + step, metrics)
