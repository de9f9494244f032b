"""Every reader of what people or programs write, to be fuzzed: a line in `readers` each.

    python tests/fuzzed_readers.py [READER ..] [--inputs N] [--seed S] [--save FOLDER]

prints `READER: N inputs, M findings` and each finding; the inputs of the findings are saved."""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import sqlite3
import tempfile
import types
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from command_cases import finished_study
from fuzzing import CHANGES, Reader, Tried, fuzz, in_json
from pydantic import BaseModel, ConfigDict

from ablate.command.curves import Curves
from ablate.command.results import read_metrics, read_predictions
from ablate.contract import Trainer
from ablate.design.cells import build_design
from ablate.design.only import select
from ablate.errors import BadInput, StoreError, TrialError
from ablate.evidence.predictions import Predicted, item_scores, predictions_in
from ablate.report.as_json import to_json
from ablate.report.outside.analyze import analyze_table
from ablate.report.outside.analyze_study import analyze_study
from ablate.report.outside.compare import compare_files
from ablate.report.outside.question import Question
from ablate.report.render.terminal import analysis_text, comparison_text
from ablate.report.report import report_of
from ablate.runner.bundles import CONTENT, pack, unpack
from ablate.runner.cadence import Cadence
from ablate.runner.checkpoint import FORMAT, save_checkpoint
from ablate.runner.context import Owner, PartContext
from ablate.runner.status import status_document, status_text
from ablate.spec.faults import Faults
from ablate.spec.reading import parse_study, read_study
from ablate.spec.script import study_of_script
from ablate.spec.yaml_tree import parse_tree
from ablate.store.places import place_in
from ablate.store.reading import read_results
from ablate.store.results import Results
from ablate.store.urls import parse_url, sqlite_file, without_password
from ablate.text import shortened
from ablate.trainer.data.reading import examples
from ablate.trainer.data.sources import Source
from ablate.trainer.tasks.registry import TASKS

ROOT = Path(__file__).parent.parent
BETWEEN = b"\x1e\n"  # files of one input
TABLE = """head,lr,seed,dev/accuracy,dev/loss
a,0.1,1,0.81,0.5
a,0.1,2,0.83,0.4
a,0.01,1,0.85,0.3
a,0.01,2,0.84,0.31
b,0.1,1,0.70,0.52
b,0.1,2,0.72,0.6
b,0.01,1,0.9,0.1
b,0.01,2,0.93,0.12
"""


def readers(finished: Path | None) -> list[Reader]:
    """Return all readers; `finished` is a folder with `runs/walk`, a study that has run. Without it, some have no corpus."""
    bad = BadInput
    database, rows, bundle, content = finished_files(finished) if finished else [b""] * 4
    return [
        Reader("study", _study, (bad,), _studies(), 6000, [*CHANGES, in_json]),
        Reader("study --set", _overrides, (bad,), _lines("epochs=2", 'command=[a, "b c"]', "data.x={files: a}"), 4000),
        Reader("study --only", functools.partial(_only, _walk()), (bad,), _lines("slope=1.0", "noise=0.1,0.5", "baseline")),
        Reader("script", _script, (bad,), _scripts(), 4000),
        Reader("data table", _data_table, (bad,), _data_tables(), 6000),
        Reader("analyze table", _analyze, (bad,), _tables(), 4000, [*CHANGES, in_json]),
        Reader("database bytes", _database_bytes, (bad, StoreError), [database], 1000),
        Reader("database rows", functools.partial(_database_rows, database), (bad, StoreError), [rows], 2000, [in_json]),
        Reader("compare files", _compare, (bad,), _compared(), 4000, [*CHANGES, in_json]),
        Reader("prediction files", _predictions, (), _lines(*_prediction_texts()), 6000),
        Reader("command predictions", _command_predictions, (TrialError,), _lines(*_prediction_texts()), 6000),
        Reader("command metrics", _metrics, (TrialError,), _lines('{"dev/accuracy": 0.5, "n": 3}'), 6000, [*CHANGES, in_json]),
        Reader("command points", _points, (TrialError,), [_POINTS], 6000, [*CHANGES, in_json]),
        Reader("checkpoint", _checkpoint, (StoreError,), [_saved()], 6000),
        Reader("checkpoint tree", _checkpoint_tree, (StoreError,), [_tree()], 6000, [in_json]),
        Reader("database URL", _url, (bad,), _lines(*_URLS), 20_000),
        Reader("bundle", _bundle, (bad, StoreError), [bundle], 1000),
        Reader("bundle content", _bundle_content, (bad, StoreError), [content], 600, [in_json]),
    ]  # fmt: skip


def finished_files(finished: Path) -> tuple[bytes, bytes, bytes, bytes]:
    """Return a study's database, its rows as JSON, its bundle, and what is in that as JSON."""
    file = finished / "runs/walk/study.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "walk.zip")
        pack(place_in(finished / "runs", "walk"), bundle, models=False)
        with zipfile.ZipFile(bundle) as packed:
            return file.read_bytes(), json.dumps(rows).encode(), bundle.read_bytes(), packed.read(CONTENT)


def _lines(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


def _written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


class Anything(BaseModel):
    """Settings of a trainer that takes any."""

    model_config = ConfigDict(extra="allow")


ANY_TRAINER = Trainer(types.SimpleNamespace(__name__="any", Settings=Anything, train=print))


@functools.cache
def _trainers() -> dict[str, Trainer]:
    from ablate import command, trainer

    return {module.__name__: Trainer(module) for module in (command, trainer)}


def _studies() -> list[bytes]:
    files = sorted([*ROOT.glob("studies/*.yaml"), *ROOT.glob("tests/bad_inputs/*.yaml")])
    return [file.read_bytes() for file in files if file.stat().st_size < 4000]


def _study(data: bytes, folder: Path) -> None:
    spec = read_study(_written(folder, "s.yaml", data))
    design = build_design(spec, _trainers().get(spec.trainer, ANY_TRAINER))
    assert design.cells


def _overrides(data: bytes, folder: Path) -> None:
    parse_study(WALK, None, data.decode(errors="replace").splitlines())


WALK = (
    'study: s\ntrainer: t\nfactors: {slope: [1.0, 2.0], noise: [0.1, 0.5, null, "null", true, a b]}\n'
    "baseline: {slope: 1.0, noise: 0.1}\ndesign: full\nseeds: [1]\nmetric: {name: m}\n"
)


def _walk() -> Any:
    return build_design(parse_study(WALK), ANY_TRAINER)


def _only(design: Any, data: bytes, folder: Path) -> None:
    assert select(design, data.decode(errors="replace").split("\n"))


def _scripts() -> list[bytes]:
    return [file.read_bytes() for file in sorted(ROOT.glob("docs/examples/*.py"))] + _lines(
        "import click\n@click.command()\n@click.option('--lr', default=0.1, help='rate')\n"
        "@click.option('--kind', type=click.Choice(['a', 'b']))\n@click.argument('out')\ndef main(lr, kind, out): ...\n",
        "import typer\ndef main(lr: float = typer.Option(0.1, '--lr', help='x'), n: int = 3, *, flag: bool = False): ...\n"
        "typer.run(main)\n",
    )


def _script(data: bytes, folder: Path) -> None:
    text, _ = study_of_script("s", _written(folder, "s.py", data))
    # What is to be filled in may be refused, but it must be YAML.
    faults = Faults("s")
    parse_tree(text, faults)
    faults.stop_if_any()


def _data_tables() -> list[bytes]:
    return _lines(
        "id\tsentence\tsentiment\n1\tA good film .\t4\n2\tbad\t0\n3\tso so\t2\n",
        'id,sentence,label\n01,"A ""good"" film, yes",4\n1,NA,0\n1.0,null,2\n',
    )


def _data_table(data: bytes, folder: Path) -> None:
    _written(folder, "d-train.csv", data)
    found = examples(Source(files=str(folder / "d-{split}.csv")), TASKS["sentiment"], "train")
    assert found.labels is not None
    assert len(set(found.ids)) == len(found.first) == len(found.labels)
    assert all(label in range(5) for label in found.labels)


def _tables() -> list[bytes]:
    rows = [line.split(",") for line in TABLE.splitlines()]
    records = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    return [
        *_lines(TABLE, TABLE.replace(",", ";").replace(".", ","), TABLE.replace(",", "\t"), TABLE.replace(",", " | ")),
        *_lines(json.dumps(records), "\n".join(map(json.dumps, records))),
        TABLE.encode("utf-16"),
    ]  # fmt: skip


def _analyze(data: bytes, folder: Path) -> None:
    question = Question("dev/accuracy", ["head", "lr"], "seed", drop_missing=len(data) % 2 == 0)
    analysis = analyze_table(_written(folder, "t.csv", data), question)
    json.dumps(to_json(analysis), allow_nan=False)
    analysis_text(analysis)


def _database_bytes(data: bytes, folder: Path) -> None:
    (folder / "runs/walk").mkdir(parents=True, exist_ok=True)
    file = _written(folder, "runs/walk/study.db", data)
    _shown(read_results(place_in(folder / "runs", "walk")))
    json.dumps(to_json(analyze_study(str(file), None, Question())), allow_nan=False)


def _database_rows(file: bytes, data: bytes, folder: Path) -> None:
    """The rows of a database whose tables are as they should be."""
    (folder / "runs/walk").mkdir(parents=True)
    path = _written(folder, "runs/walk/study.db", file)
    try:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("PRAGMA synchronous=OFF")
            for table, rows in json.loads(data).items():
                database.execute(f'DELETE FROM "{table}"')
                for row in rows:
                    database.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(row))})', row)
    except (sqlite3.Error, AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadInput("SQLite cannot hold this") from error
    _database_bytes(path.read_bytes(), folder)


def _compared() -> list[bytes]:
    gold = "id,label\n" + "".join(f"{i},{i % 3}\n" for i in range(12))
    one, two = ("id,prediction\n" + "".join(f"{i},{(i * n) % 3}\n" for i in range(12)) for n in (1, 5))
    records = "".join(f'{{"id": {i}, "prediction": {i % 2}}}\n' for i in range(12))
    return [BETWEEN.join(_lines(*texts)) for texts in ((gold, one, two), (gold, records, two))]


def _compare(data: bytes, folder: Path) -> None:
    gold, a, b, *_ = [*data.split(BETWEEN), b"", b"", b""]
    files = [_written(folder, name, text) for name, text in (("gold.csv", gold), ("a.csv", a), ("b.csv", b))]
    metric = "pearson" if len(data) % 2 else "accuracy"
    comparison = compare_files(files[0], files[1:2], files[2:], metric)
    json.dumps(to_json(comparison), allow_nan=False)
    comparison_text(comparison)


def _prediction_texts() -> list[str]:
    rows = "".join(f"{i},{i % 3},{i % 2}\n" for i in range(6))
    clustered = "".join(f'"a, {i}",{i / 3},{i % 2},c{i // 2}\n' for i in range(6))
    return [f"id,prediction,gold\n{rows}", f"id,prediction,gold,cluster\n{clustered}"]


def _predictions(data: bytes, folder: Path) -> None:
    found = predictions_in(_written(folder, "dev.a.csv", data))
    if isinstance(found, Predicted):
        assert len(found.ids) == len(found.predicted) == len(found.gold)
        item_scores(found, 0.5)


def _context(folder: Path) -> PartContext:
    return PartContext(
        Owner(), seed=1, device="cpu", workdir=folder / "work", cache=folder, cadence=Cadence(60.0)
    )


def _command_predictions(data: bytes, folder: Path) -> None:
    (folder / "predictions").mkdir()
    _written(folder, "predictions/dev.a.csv", data)
    for (split, task), columns in read_predictions(folder).items():
        context = _context(folder)
        context.predictions(split, task, **columns)
        predictions_in(context.workdir / "predictions" / "dev.a.csv")


def _metrics(data: bytes, folder: Path) -> None:
    _written(folder, "metrics.json", data)
    assert read_metrics(folder, {})


_POINTS = b'{"step": 0, "dev/loss": 0.5}\n{"step": 1, "dev/loss": 0.25, "note": "x"}\n{"step": 2, "a": 1}\n'


def _points(data: bytes, folder: Path) -> None:
    (folder / "work").mkdir()
    _written(folder, "work/points.jsonl", data)
    Curves(folder / "work", _context(folder)).follow(data.split(b"\n"), to_the_end=True)


INNER = {"model": {"w": np.arange(6.0).reshape(2, 3)}, "rng": (1, [None, True, "x"])}
STATE = {"of": "work", "step": 3, "seconds": 1.5, "state": INNER}


def _saved() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), 3, STATE)
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


def _tree() -> bytes:
    payload = _saved().split(b"\n", 2)[2]
    return safetensors.numpy.load(payload)["tree"].tobytes()


def _checkpoint(data: bytes, folder: Path) -> None:
    (folder / "work").mkdir()
    _written(folder, "work/step-000000000003.checkpoint", data)
    context = _context(folder)
    said = io.StringIO()
    context._owner.notice = lambda line: print(line, file=said)  # type: ignore[method-assign]
    context.restore()
    assert said.getvalue().count("\n") < 2, said.getvalue()


def _checkpoint_tree(data: bytes, folder: Path) -> None:
    """The tree inside a file that is otherwise whole: its digest matches."""
    buffers = {"0": np.arange(48, dtype=np.uint8), "tree": np.frombuffer(data or b" ", dtype=np.uint8)}
    payload = safetensors.numpy.save(buffers)
    _checkpoint(FORMAT + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload, folder)


_URLS = (
    "sqlite:///a/study.db",
    "postgresql://user:secret@host:5432/name?sslmode=require",
    "postgresql+psycopg://u@[::1]:5432/n",
    "mysql://user:secret@host/name",
)


def _url(data: bytes, folder: Path) -> None:
    url = data.decode(errors="surrogateescape")
    parse_url(url)
    assert not url.startswith("postgresql") or ":secret@" not in without_password(url)
    sqlite_file(url)


def _bundle(data: bytes, folder: Path) -> None:
    bundle = _written(folder, "walk.zip", data)
    try:
        place = unpack(bundle, folder / "runs", None)
    except BadInput:
        assert not (folder / "runs").exists() or not any(_files(folder / "runs"))
        raise
    _shown(read_results(place))


def _shown(results: Results) -> None:
    """What was read without an error can be shown."""
    status_text(results)
    json.dumps(status_document(results), allow_nan=False)
    json.dumps(to_json(report_of(results)), allow_nan=False)


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())


def _bundle_content(data: bytes, folder: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr(CONTENT, data)
    _bundle(packed.getvalue(), folder)


def summary(reader: Reader, tried: Tried) -> str:
    """Return what fuzzing a reader gave: one line, and one for each finding with its first input."""
    counts = f"{tried.inputs:,} inputs, {tried.refused:,} of them refused, {len(tried.findings)} findings"
    found = [f"    {what}: {shortened(ascii(data), 300)}" for what, data in tried.findings.items()]
    return "\n".join([f"{reader.name}: {counts}, {tried.seconds:.0f} s", *found])


def main() -> None:
    """Fuzz the readers that are named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as scratch:
        for reader in readers(finished_study(Path(scratch))):
            if given.readers and reader.name not in given.readers:
                continue
            tried = fuzz(reader, given.seed, given.inputs)
            print(summary(reader, tried), flush=True)
            for number, data in enumerate(tried.findings.values()):
                given.save.mkdir(exist_ok=True)
                print(_written(given.save, f"{reader.name.replace(' ', '-')}-{number}", data))


if __name__ == "__main__":
    main()
