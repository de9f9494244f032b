"""The command line: parse, call one function, print. Results go to stdout, everything else to stderr.

Everything heavy is imported inside the command that needs it, so that `ablate --help` is instant."""

import errno
import json
import os
import signal
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ablate.errors import AblateError, BadInput

_ELSEWHERE = "name a folder that you may write to (--home, --out), or ask whoever owns this one"
_SPACE = "make room, then type the same command again"
WOULD_DO = {  # what a file system may say, and what would do
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENOENT: _ELSEWHERE,
    errno.ENOTDIR: "a file is in the way; name another folder (--home, --out)",
    errno.EEXIST: "a file is in the way; name another folder (--home, --out)",
    errno.EISDIR: "a folder is in the way; move it or name another place (--home, --out)",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EIO: "look after the disk",
}

app = typer.Typer(
    help="Which of my fine-tuning choices help, by how much, how sure am I, and what did it cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.", show_default=False)]
StudyOrName = Annotated[
    str | None, typer.Argument(metavar="[STUDY]", help="A study file, or the name of a study that has run.")
]
Home = Annotated[Path | None, typer.Option(help="Folder of all studies. [env: ABLATE_HOME; default: runs]")]


def _storage_typed(url: str | None) -> str | None:
    _warn_of_password("--storage", url or "", "ABLATE_STORAGE")
    return url


def _warn_of_password(option: str, url: str, instead: str) -> None:
    if "@" in url and ":" in url.partition("://")[2].rpartition("@")[0]:
        _complain(
            f"{option}: everybody on this machine can read a password in an argument; set {instead} instead"
        )


Storage = Annotated[
    str | None,
    typer.Option(
        help="Database URL instead of SQLite in the home. [env: ABLATE_STORAGE]",
        show_default=False,
        callback=_storage_typed,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Decimal = Annotated[
    str | None,
    typer.Option(metavar=".|,", help="The decimal mark. [default: read off the file]", show_default=False),
]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting that does not vary.")
]
Only = Annotated[
    list[str],
    typer.Option(
        metavar="FACTOR=LEVEL", help="Only these cells; also `baseline` or `best`. May be repeated."
    ),
]


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the study.")] = "my_study",
) -> None:
    """Write a commented study to start from.

    Example: ablate init sentiment_heads
    """
    from ablate.spec.template import write_study

    print(write_study(name))


@app.command()
def plan(
    study: Study,
    measure_: Annotated[
        bool,
        typer.Option(
            "--measure", help="Time a few steps of each kind first; later plans know what they took."
        ),
    ] = False,
    set_: Set = [],
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show cells, trials, shared parts, cost and the smallest detectable effect. Trains nothing.

    Example: ablate plan studies/full_grid.yaml --measure
    """
    from ablate.runner.measuring import measure, read_measured
    from ablate.runner.plan import plan_document, plan_text
    from ablate.runner.prepare import Options, prepare

    prepared = prepare(study, Options(home=home, storage=storage, overrides=set_))
    measured = measure(prepared, _complain) if measure_ else read_measured(prepared)
    document = plan_document(prepared.spec, prepared.design, prepared.place, measured)
    _print(document, plan_text(document), as_json)


@app.command()
def run(
    study: Study,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Worker processes on this machine; auto: as many as fit, by measured memory.",
        ),
    ] = "1",
    engine: Annotated[str, typer.Option(help="What starts workers: local, ray or slurm.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the engine's cluster.", show_default=False)] = None,
    only: Only = [],
    set_: Set = [],
    limit: Annotated[int | None, typer.Option(help="At most this many trials.", min=1)] = None,
    smoke: Annotated[
        bool,
        typer.Option(help="Every cell for a few steps on toy data, as study NAME-smoke; each time anew."),
    ] = False,
    extend: Annotated[bool, typer.Option(help="Allow a study that gained levels or seeds.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Try failed trials again.")] = False,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Run what has no result yet. Safe to interrupt; the same command resumes.

    Example: ablate run studies/quickstart.yaml
    """
    from rich.console import Console

    from ablate.runner.prepare import Options
    from ablate.runner.status import status_document, status_text
    from ablate.runner.study import run_study
    from ablate.store.reading import read_results

    options = Options(
        home=home,
        storage=storage,
        workers=_count("--workers", workers),
        engine=engine,
        address=address,
        only=only,
        overrides=set_,
        limit=limit,
        smoke=smoke,
        extend=extend,
        retry_failed=retry_failed,
    )
    code, place = run_study(study, options, Console(stderr=True))
    results = read_results(place.url, place.study, place.folder)
    _print(status_document(results), status_text(results), as_json)
    failed = any(trial.state == "FAIL" for trial in results.trials)
    raise typer.Exit(code or int(failed))


@app.command()
def worker(
    study: StudyOrName = None,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Be one more worker of a study that `ablate run` has started, on this or another machine, until nothing is left.

    Example: ablate worker full_grid --storage postgresql://me@db/ablate --home /shared/runs
    """
    from ablate.runner.process import work_here
    from ablate.store.places import find_study, looks_like_path

    folder = Path(study).resolve().parent if study and looks_like_path(study) else None
    raise typer.Exit(work_here(find_study(study, home, storage), folder))


@app.command()
def status(
    study: StudyOrName = None,
    watch: Annotated[bool, typer.Option(help="Show it again every two seconds.")] = False,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show what is done, running, failed and left.

    Example: ablate status quickstart
    """
    import time

    from ablate.runner.status import status_document, status_text
    from ablate.store.places import find_study
    from ablate.store.reading import read_results

    place = find_study(study, home, storage)
    while True:
        results = read_results(place.url, place.study, place.folder)
        if not watch:
            return _print(status_document(results), status_text(results), as_json)
        if sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        _print(status_document(results), status_text(results), as_json)
        if not any(trial.state in ("RUNNING", "WAITING") for trial in results.trials):
            return None
        time.sleep(2)


@app.command()
def report(
    study: StudyOrName = None,
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            help="md, html, latex, csv, json. May be repeated. [default: md and html; json always]",
        ),
    ] = [],
    out: Annotated[Path | None, typer.Option(help="Folder to write to. [default: reports/STUDY]")] = None,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write the report of a study, finished or not: markdown, pictures, HTML and JSON into reports/STUDY.

    Example: ablate report quickstart
    """
    from ablate.report.document import to_json
    from ablate.report.report import write_report
    from ablate.store.places import find_study
    from ablate.store.reading import read_results

    place = find_study(study, home, storage)
    results = read_results(place.url, place.study, place.folder)
    folder = out or Path("reports") / place.study
    report = write_report(results, folder, formats or ["md", "html"])
    written = sorted(folder.glob("report.*"))
    _print(to_json(report), "\n".join(map(str, written)), as_json)


@app.command("test")
def score(
    study: StudyOrName = None,
    again: Annotated[
        bool, typer.Option("--again", help="Score once more; the report will say that it was.")
    ] = False,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Score the best cell on the test split, for every seed, once. Recorded with who and when.

    Example: ablate test quickstart
    """
    from ablate.runner.testing import score_chosen, scores_text
    from ablate.store.places import find_study

    document = score_chosen(find_study(study, home, storage), again)
    _print(document, scores_text(document), as_json)


@app.command()
def export(
    study: StudyOrName = None,
    format_: Annotated[
        str, typer.Option("--format", help="Of the predictions: csv, or cs224n (the course's files).")
    ] = "csv",
    only: Only = [],
    seed: Annotated[int | None, typer.Option(help="Of this seed. [default: the first planned]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. [default: exports/STUDY]")] = None,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write the best cell's model and predictions, and all results as CSV and parquet.

    Example: ablate export quickstart --format cs224n
    """
    from ablate.report.export import export_study
    from ablate.store.places import find_study
    from ablate.store.reading import read_results

    place = find_study(study, home, storage)
    results = read_results(place.url, place.study, place.folder)
    document = export_study(results, out or Path("exports") / place.study, format_, only, seed)
    _complain(*document["notes"])
    _print(document, "\n".join(document["files"]), as_json)


@app.command()
def analyze(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE|DATABASE",
            help="A results table, one row per run (CSV, TSV, JSONL), or an Optuna database: its file or URL.",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            help="The column to explain; several where each seed has one: a,b,c or 'acc_*'. "
            "Of a study: value (the default), values.0, or a user attribute.",
        ),
    ] = None,
    factors: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="The columns that were varied. Of a study: all params that vary."),
    ] = None,
    block: Annotated[str | None, typer.Option(help="The column of seeds or other blocks.")] = None,
    study: Annotated[
        str | None,
        typer.Option(help="The study in the database. [default: the only one]", show_default=False),
    ] = None,
    baseline: Annotated[
        str, typer.Option(metavar="A=0,B=0", help="The level each factor is compared with.")
    ] = "",
    order: Annotated[str, typer.Option(help="auto, 1 (main effects), 2 (and pairs) or full.")] = "auto",
    goal: Annotated[
        str | None, typer.Option(help="maximize or minimize. [default: the study's own, or maximize]")
    ] = None,
    smallest_effect: Annotated[
        float | None, typer.Option(help="The smallest difference that matters.")
    ] = None,
    drop_missing: Annotated[bool, typer.Option(help="Leave out rows without the metric.")] = False,
    unit: Annotated[
        str,
        typer.Option(help="run: rows of one combination and block are one. row: each is a run of its own."),
    ] = "run",
    decimal: Decimal = None,
    as_json: Json = False,
) -> None:
    """Give the report's statistics for any results table or Optuna study: effects, intervals, ANOVA, verdicts.

    Example: ablate analyze runs.csv --metric accuracy --factors head,lr --block seed

    A study of Optuna: ablate analyze optuna.db --study tuning --block seed
    """
    from ablate.report.document import to_json
    from ablate.report.render.terminal import analysis_text
    from ablate.tables import SQLITE, read_bytes

    varied = None if factors is None else _names("--factors", factors)
    levels = _assignments("--baseline", baseline)
    is_database = "://" in table or read_bytes(Path(table), len(SQLITE)) == SQLITE
    if is_database or study is not None:
        from ablate.report.outside.analyze_study import (
            analyze_study,  # a database library takes a while to load
        )

        _warn_of_password("DATABASE", table, "PGPASSWORD")
        analysis = analyze_study(
            table, study, metric, varied, block, levels, order, drop_missing, smallest_effect, goal, unit
        )
    else:
        from ablate.report.outside.analyze import analyze_table

        analysis = analyze_table(
            Path(table),
            metric or "",
            varied or [],
            block,
            levels,
            order,
            drop_missing,
            smallest_effect,
            goal or "maximize",
            unit,
            decimal,
        )
    _print(to_json(analysis), analysis_text(analysis), as_json)


@app.command()
def compare(
    studies: Annotated[
        list[str],
        typer.Argument(
            metavar="[STUDY_A STUDY_B]",
            help="Two studies that have run, instead of files.",
            show_default=False,
        ),
    ] = [],
    gold: Annotated[Path | None, typer.Option(help="Labels: CSV or JSONL with id and label.")] = None,
    a: Annotated[
        list[Path], typer.Option("--a", help="Predictions of A, with id and prediction. One file a seed.")
    ] = [],
    b: Annotated[
        list[Path], typer.Option("--b", help="Predictions of B, same seeds in the same order.")
    ] = [],
    metric: Annotated[str | None, typer.Option(help="accuracy or pearson.")] = None,
    correct: Annotated[
        bool,
        typer.Option(
            "--correct",
            help="The files hold how right each answer was (0/1, true/false, or between); no gold needed.",
        ),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="The column of items that belong together, in the gold or else in the files."),
    ] = None,
    id_key: Annotated[
        str, typer.Option(metavar="KEY", help="Column, or key with dots such as doc.id.")
    ] = "id",
    prediction_key: Annotated[str, typer.Option(metavar="KEY", help="Of the files.")] = "prediction",
    label_key: Annotated[str, typer.Option(metavar="KEY", help="Of the gold.")] = "label",
    correct_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Of files of correctness; implies --correct. [default: correct]"),
    ] = None,
    smallest_effect: Annotated[
        float | None, typer.Option(help="The smallest difference that matters.")
    ] = None,
    decimal: Decimal = None,
    only_a: Annotated[
        list[str],
        typer.Option("--only-a", metavar="FACTOR=LEVEL", help="The cell of STUDY_A. May be repeated."),
    ] = [],
    only_b: Annotated[
        list[str],
        typer.Option("--only-b", metavar="FACTOR=LEVEL", help="The cell of STUDY_B. May be repeated."),
    ] = [],
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Compare two sets of prediction files against gold, or a cell of each of two studies: B minus A.

    Example: ablate compare --gold dev.csv --a base1.csv --a base2.csv --b new1.csv --b new2.csv --metric accuracy

    Two studies: ablate compare old_code new_code --only-a baseline --only-b baseline

    Logs of an evaluation harness: ablate compare --a old.jsonl --b new.jsonl --id-key doc_id --correct-key acc
    """
    from ablate.report.document import to_json
    from ablate.report.render.terminal import comparison_text

    if studies:
        given = [
            f"--{name}" for name, value in (("gold", gold), ("a", a), ("b", b), ("metric", metric)) if value
        ]
        if len(studies) != 2 or given:
            raise BadInput(f"compare takes two studies, or files; found {', '.join([*studies, *given])}")
        from ablate.report.outside.compare_studies import compare_studies
        from ablate.store.places import find_study
        from ablate.store.reading import read_results

        results_a, results_b = (
            read_results(place.url, place.study, place.folder)
            for place in (find_study(name, home, storage) for name in studies)
        )
        compared = compare_studies(results_a, results_b, only_a, only_b)
        _print(to_json(compared), comparison_text(compared), as_json)
        return
    from ablate.report.outside.compare import compare_files
    from ablate.report.outside.prediction_files import Keys

    keys = Keys(id_key, prediction_key, label_key, correct_key or "correct", cluster)
    comparison = compare_files(
        gold,
        a,
        b,
        metric,
        smallest_effect,
        keys=keys,
        correct=correct or correct_key is not None,
        decimal=decimal,
    )
    _print(to_json(comparison), comparison_text(comparison), as_json)


@app.command()
def dashboard(
    study: StudyOrName = None,
    port: Annotated[int, typer.Option(help="On loopback.", min=1, max=65535)] = 8080,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Open optuna-dashboard on the study's database, on loopback only.

    Example: ablate dashboard quickstart
    """
    from ablate.runner.dashboard import serve_dashboard
    from ablate.store.places import find_study

    serve_dashboard(find_study(study, home, storage), port)


@app.command()
def doctor(home: Home = None, storage: Storage = None) -> None:
    """Look at GPU, driver, torch build, disk, hub and database: what works, what to do about the rest.

    Example: ablate doctor
    """
    from ablate.runner.doctor import examine, findings_text
    from ablate.store.places import home_folder

    findings_text(examine(home_folder(home), storage), print)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the study file."""
    from ablate.spec.schema import json_schema

    print(json.dumps(json_schema(), indent=2))


def _count(option: str, typed: str) -> int | None:
    if typed == "auto":
        return None
    if not typed.isascii() or not typed.isdigit() or int(typed) < 1:
        raise BadInput(f"{option}: found {typed!r}; write a number from 1 on, or auto")
    return int(typed)


def _names(option: str, typed: str) -> list[str]:
    names = [name.strip() for name in typed.split(",")]
    if not all(names):
        raise BadInput(f"{option}: found {typed!r}; write column names with commas between them")
    return names


def _assignments(option: str, typed: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in typed.split(",") if typed]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise BadInput(f"{option}: found {typed!r}; write FACTOR=LEVEL with commas between them")
    return {name.strip(): level.strip() for name, _, level in pairs}


def _print(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result: one JSON document, or the text for a person."""
    if as_json:
        print(_harmless(json.dumps(document, ensure_ascii=False), lambda c: json.dumps(c)[1:-1]))
    else:
        print("\n".join(_harmless(line) for line in text.split("\n")))


def _harmless(text: str, written_out: Callable[[str], str] = lambda c: ascii(c)[1:-1]) -> str:
    """Return `text` with every character that a terminal would obey, and none would show, written out.

    A name or a field of somebody's file may hold escapes that clear the screen or marks that turn text around."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else written_out(c) for c in text)


def main() -> None:
    """Run the command line; turn what we can explain into lines and an exit code."""
    from typer.exceptions import Abort, TyperException

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        code = app(standalone_mode=False)
    except AblateError as error:
        _complain(*error.faults)
        code = error.exit_code
    except TyperException as error:
        _complain(f"{error.format_message()} See: ablate {_command_typed()}--help")
        code = 2
    except Abort:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader left, e.g. `| head`
        code = 0
    except OSError as error:
        if error.errno not in WOULD_DO:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror}; {WOULD_DO[error.errno]}")
        code = 1
    sys.exit(code)


def _complain(*lines: str) -> None:
    for line in lines:
        print(_harmless(line), file=sys.stderr)


def _command_typed() -> str:
    named = [word for word in sys.argv[1:2] if not word.startswith("-")]
    return f"{named[0]} " if named else ""


if __name__ == "__main__":
    main()
