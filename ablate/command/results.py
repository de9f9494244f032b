"""The results of a program: metrics.json or a printed line, and predictions per item. Read after it has ended."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.command.curves import numbers_of
from ablate.errors import BadInput, TrialError
from ablate.tables import Faults, read_text, records
from ablate.text import listed, shortened, shown

METRICS = "metrics.json"
PREDICTIONS = "predictions"
REQUIRED = ("id", "prediction", "gold")


def remove_results(workdir: Path) -> None:
    """Remove the results of an earlier attempt, so that they are not mistaken for results of this attempt."""
    (workdir / METRICS).unlink(missing_ok=True)
    shutil.rmtree(workdir / PREDICTIONS, ignore_errors=True)


def read_metrics(workdir: Path, printed: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers in metrics.json or, if there is no such file, `printed`: the last printed line of numbers only.

    Raises:
        TrialError: the file is not a JSON object, or there are no numbers.
    """
    file = workdir / METRICS
    if not file.exists():
        metrics = {name: value for name, value in printed.items() if name != "step"}
        if metrics:
            return metrics
        raise TrialError(
            f"the program ended without metrics: it wrote no {file}, and printed no line that is a JSON object of numbers, "
            'such as {"dev/accuracy": 0.91}: end it with print(json.dumps({"dev/accuracy": accuracy})), with the name of the '
            "study's metric, and run with --retry-failed"
        )
    if not file.is_file() or not file.stat().st_size:
        what = "empty" if file.is_file() else "not a file"
        raise TrialError(f'{file}: {what}; write a JSON object such as {{"dev/accuracy": 0.91}}')
    try:
        document = json.loads(read_text(file))
    except (ValueError, RecursionError, BadInput) as error:
        raise TrialError(f"{file}: not JSON ({error})") from error
    numbers = numbers_of(document) if isinstance(document, dict) else {}
    if not numbers:
        written = shortened(json.dumps(document), 60)
        raise TrialError(
            f'{file}: no numbers in it: found {written}; write a JSON object such as {{"dev/accuracy": 0.91}}'
        )
    if others := [name for name in document if name not in numbers]:
        print(f"{file}: ignored, since they are not numbers: {listed(map(shown, others), 12)}", flush=True)
    return numbers


def read_predictions(workdir: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (split, task) -> ids, predicted, gold and clusters of each `predictions/<split>.<task>.csv`.

    Raises:
        TrialError: a file lacks a column, or a row is incomplete.
    """
    predictions = {}
    for file in sorted((workdir / PREDICTIONS).glob("*.csv")):
        split, _, task = file.stem.partition(".")
        if not task:
            raise TrialError(f"{file}: call it <split>.<task>.csv, e.g. dev.accuracy.csv")
        try:
            columns = _columns(file)
        except BadInput as error:
            raise TrialError(*error.faults) from error
        predictions[split, task] = {
            "ids": columns["id"],
            "predicted": columns["prediction"],
            "gold": columns["gold"],
            "clusters": columns.get("cluster"),
        }
    return predictions


def _columns(file: Path) -> dict[str, list[Any]]:
    """Return the columns of a prediction file; predictions and gold as numbers.

    Raises:
        BadInput: with every fault.
    """
    faults = Faults(file)
    rows = records(read_text(file).splitlines(keepends=True), ",", faults)
    _, header = next(rows, (1, []))
    columns: dict[str, list[Any]] = {name: [] for name in header}
    if missing := [name for name in REQUIRED if name not in columns]:
        faults.add(
            f"no column {' or '.join(missing)}; the columns are id,prediction,gold and optionally cluster"
        )
        faults.raise_any()
    for line, fields in rows:
        if len(fields) != len(header):
            faults.add(f"{len(fields)} fields, but {len(header)} columns", line)
            continue
        for name, field in zip(header, fields, strict=True):
            columns[name].append(_number(field, name, line, faults) if name in REQUIRED[1:] else field)
    faults.raise_any()
    return columns


def _number(field: str, name: str, line: int, faults: Faults) -> float | int:
    # Keeps the way a class was written: 1, not 1.0.
    with contextlib.suppress(ValueError):
        return int(field)
    try:
        return float(field)
    except ValueError:
        faults.add(f"found {field!r}; write a number (of a class, its index)", line, name)
        return 0.0
