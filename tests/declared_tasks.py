"""CSV files for tasks that a study declares, drawn from the toy corpus of their kind."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fixture_types import not_none

from ablate.trainer.data.corpus import generate
from ablate.trainer.data.examples import Examples
from ablate.trainer.declared_tasks import DeclaredTask
from ablate.trainer.tasks.task import Task

ROWS = {"train": 16, "dev": 12, "test": 12}
LABELS: dict[str, dict[str, Any]] = {
    "classification": {"labels": 3},
    "pair_classification": {"labels": ["contradiction", "neutral", "entailment"]},
    "regression": {"range": [-1, 1]},
    "pair_regression": {"range": [0, 1]},
    "multilabel": {"labels": ["who", "did", "what"]},
}


def write_files(folder: Path, kind: str, labels: dict[str, Any] | None = None) -> str:
    """Write `<kind>-train.csv`, .. into `folder`; return their path with {split}."""
    task = DeclaredTask(kind=kind, **(labels or LABELS[kind])).task(kind)
    for split, rows in ROWS.items():
        write_table(folder / f"{kind}-{split}.csv", task, generate(task, split, rows))
    return str(folder / f"{kind}-{{split}}.csv")


def write_table(path: Path, task: Task, drawn: Examples) -> None:
    """Write labelled examples as CSV."""
    labels = [_written(label, task.labels.names) for label in not_none(drawn.labels).tolist()]
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("id", *task.columns, "label"))
        table.writerows(zip(drawn.ids, *drawn.columns.values(), labels, strict=True))


def _written(label: Any, names: Sequence[str]) -> str:
    if isinstance(label, list):
        return "|".join(name for name, holds in zip(names, label, strict=True) if holds)
    return names[int(label)] if names else f"{label:.3f}".removesuffix(".000")
