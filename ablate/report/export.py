"""Take results out: the tidy table, predictions of one trial, the model of one trial.

Which trial: that of the cell with the best mean of the primary metric over all planned seeds (the one the report calls
best), and of it the first planned seed. Not the seed with the best score: that would be luck, sold as skill."""

import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ablate.errors import BadInput
from ablate.report.cells import best_row, cell_name
from ablate.report.files import replace_file, safe_field
from ablate.report.frames import Grid, grid, tidy_frame
from ablate.report.predictions import Predicted, read_predictions
from ablate.report.words import plural
from ablate.store.results import PartResult, Results, TrialResult

# The course's files; its spelling of "Similiary" and the spaces around tab and comma are part of the format.
CS224N = {
    "sentiment": ("sst", "Predicted_Sentiment"),
    "paraphrase": ("para", "Predicted_Is_Paraphrase"),
    "similarity": ("sts", "Predicted_Similiary"),
}


def export_results(results: Results, path: Path) -> Path:
    """Write one row per trial (`tidy_frame`) to `path`, `.csv` or `.parquet`, and return it.

    Raises:
        BadInput: another suffix.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise BadInput(f"{path}: found the suffix {path.suffix!r}; .csv or .parquet would do")
    frame = tidy_frame(results)
    if path.suffix == ".csv":
        safe = frame.rename(columns=safe_field).map(safe_field)
        replace_file(path, safe.to_csv(index=False, lineterminator="\n").encode())
    else:
        from pandas.api.types import is_object_dtype

        # Levels of one factor may be of several types; a parquet column has one.
        for name in [name for name in frame if is_object_dtype(frame[name])]:
            frame[name] = frame[name].map(_as_text)
        replace_file(path, frame.to_parquet(index=False))
    return path


def export_predictions(
    results: Results,
    out: Path,
    format: str = "csv",
    split: str = "dev",
    cell: str | None = None,
    seed: int | None = None,
) -> list[Path]:
    """Write the per-item predictions of one trial into `out` and return the files.

    `cs224n` writes `sst-dev-output.csv`, `para-…` and `sts-…` in the course's format, `csv` one `dev.<task>.csv` per
    task with columns id, prediction, gold.

    Raises:
        BadInput: an unknown format, cell or seed, or a trial without kept predictions.
    """
    writers = {"cs224n": _cs224n_file, "csv": _csv_file}
    if format not in writers:
        raise BadInput(f"--format: found {format!r}; {' or '.join(writers)} would do")
    trial = chosen_trial(results, cell, seed)
    files: dict[str, bytes] = {}
    for part in _parts(results, trial):
        for path in sorted((part.folder / "predictions").glob(f"{split}.*.csv")):
            task = path.name.removeprefix(f"{split}.").removesuffix(".csv")
            found = read_predictions(path)
            if found is None:
                raise BadInput(f"{path}: not a prediction file (columns id, prediction, gold)")
            if written := writers[format](split, task, found):
                files |= written
    if not files:
        raise BadInput(
            f"{results.spec.study}: cell {trial.cell}, seed {trial.seed} has no {split} predictions to write as {format}; "
            "the trainer must call `context.predictions`"
        )
    for name, content in files.items():
        replace_file(out / name, content)
    return [out / name for name in files]


def export_model(results: Results, out: Path, cell: str | None = None, seed: int | None = None) -> list[Path]:
    """Copy the model of one trial to `out/model`, or to `out/<part>/model` where it has several parts.

    Raises:
        BadInput: an unknown cell or seed, or a part whose trainer kept no model.
    """
    trial = chosen_trial(results, cell, seed)
    parts = {name: results.parts.get((part, trial.seed)) for name, part in trial.parts.items()}
    lacking = [name for name, part in parts.items() if part is None or not (part.folder / "model").is_dir()]
    if lacking:
        raise BadInput(
            f"{results.spec.study}: no model was kept for cell {trial.cell}, seed {trial.seed} "
            f"({', '.join(lacking)}); a setting of the trainer says whether models are kept"
        )
    written = []
    for name, part in parts.items():
        assert part is not None
        target = out / "model" if len(parts) == 1 else out / _folder_name(name, part) / "model"
        _copy_folder(part.folder / "model", target)
        written.append(target)
    return written


def chosen_trial(results: Results, cell: str | None = None, seed: int | None = None) -> TrialResult:
    """Return the trial to export: of the best cell unless `cell` (a hash) is given, of the first seed unless `seed` is.

    Raises:
        BadInput: no such cell or seed, no result for it, or no cell with all its seeds done to be the best.
    """
    arranged = grid(results)
    row = best_row(arranged) if cell is None else arranged.index.get(cell)
    if row is None and cell is None:
        raise BadInput(
            f"{results.spec.study}: no cell has all of its planned seeds done; name one by its hash"
        )
    if row is None:
        raise BadInput(
            f"cell: {results.spec.study} has no cell {cell!r}; `ablate report` lists them in report.json"
        )
    column = _column(arranged, seed)
    trial = arranged.trials.get((row, column))
    if trial is None or trial.state != "COMPLETE":
        state = trial.state if trial else "not there"
        raise BadInput(
            f"{results.spec.study}: cell {arranged.cells[row].hash} ({cell_name(arranged, row)}), "
            f"seed {arranged.seeds[column]} is {state}; a complete trial would do"
        )
    return trial


def _column(arranged: Grid, seed: int | None) -> int:
    if seed is None:
        return 0
    if seed not in arranged.seeds:
        known = ", ".join(map(str, arranged.seeds))
        raise BadInput(f"seed: found {seed}; the study has {plural(len(arranged.seeds), 'seed')}: {known}")
    return arranged.seeds.index(seed)


def _parts(results: Results, trial: TrialResult) -> list[PartResult]:
    return [part for hash in trial.parts.values() if (part := results.parts.get((hash, trial.seed)))]


def _cs224n_file(split: str, task: str, found: Predicted) -> dict[str, bytes]:
    if task not in CS224N:
        return {}
    short, header = CS224N[task]
    value: Callable[[float], str] = (
        (lambda p: str(int(p))) if task == "sentiment" else (lambda p: str(float(p)))
    )
    rows = [f"{id} , {value(p)} \n" for id, p in zip(found.ids, found.predicted, strict=True)]
    return {f"{short}-{split}-output.csv": "".join([f"id \t {header} \n", *rows]).encode()}


def _csv_file(split: str, task: str, found: Predicted) -> dict[str, bytes]:
    rows = zip(found.ids, found.predicted.tolist(), found.gold.tolist(), strict=True)
    lines = [
        f"{_quoted(str(safe_field(id)))},{p!r},{'' if math.isnan(g) else repr(g)}\n" for id, p, g in rows
    ]
    return {f"{split}.{task}.csv": "".join(["id,prediction,gold\n", *lines]).encode()}


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"' if re.search('[",\r\n]', text) else text


def _as_text(level: object) -> str | None:
    if level is None or (isinstance(level, float) and np.isnan(level)):
        return None
    return str(level).lower() if isinstance(level, bool) else str(level)


def _folder_name(name: str, part: PartResult) -> str:
    """A part's name is the trainer's text: it names a folder only if it is a plain word."""
    return name if re.fullmatch(r"\w[\w-]{0,63}", name) else part.part


def _copy_folder(source: Path, target: Path) -> None:
    """Copy `source` beside `target`, then swap: a reader finds the old folder or the new one, whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    stale = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    if target.exists():
        os.replace(target, stale)
    os.replace(fresh, target)
    shutil.rmtree(stale, ignore_errors=True)
