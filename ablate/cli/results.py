"""Commands that show the results of a study: status, report, export, dashboard."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli.options import Home, Json, Only, Storage, StudyOrName
from ablate.cli.printing import complain, show

if TYPE_CHECKING:
    from ablate.store.results import Results


def status(
    study: StudyOrName = None,
    watch: Annotated[bool, typer.Option(help="Refresh every two seconds.")] = False,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show what is done, running, failed and left.

    Example: ablate status quickstart
    """
    from ablate.runner.status import status_document, status_text
    from ablate.store.finding import find_study
    from ablate.store.reading import read_results
    from ablate.store.results import is_going_on

    place = find_study(study, home, storage)
    while True:
        results = read_results(place)
        if watch and sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        show(status_document(results), status_text(results), as_json)
        if not watch or not is_going_on(results):
            return
        time.sleep(2)


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
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Keep writing until the study ends. report.html reloads by itself and shows the progress; --json prints "
            "at the end.",
        ),
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often --watch writes, at most.", min=1, max=86400)
    ] = 15,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Write the report of a study, finished or not. It goes to reports/STUDY as markdown with pictures, HTML and JSON.

    Example: ablate report quickstart
    """
    from ablate.report.as_json import to_json
    from ablate.store.finding import find_study
    from ablate.store.reading import read_results

    place = find_study(study, home, storage)
    folder, formats = out or Path("reports") / place.study, formats or ["md", "html"]

    def read() -> "Results":
        results = read_results(place)
        return replace(results, edited=_edited(study, results))

    results = read()
    complain(
        *(
            f"{study}: {change} since it was run; the report describes what was run"
            for change in results.edited
        )
    )
    if watch:
        from ablate.report.watch import watch_report

        complain(
            f"{folder / 'report.html'}: open it in a browser; it is updated until the study ends or you press Ctrl-C"
        )
        written = watch_report(read, folder, formats, every)
    else:
        from ablate.report.report import write_report

        written = write_report(results, folder, formats)
    tables = folder.glob("*.csv") if "csv" in formats else ()
    show(to_json(written), "\n".join(map(str, sorted([*folder.glob("report.*"), *tables]))), as_json)


def _edited(study: str | None, results: "Results") -> tuple[str, ...]:
    """Return how the study file has changed since the run; nothing unless a file was named."""
    from ablate.store.finding import looks_like_path

    if study is None or not looks_like_path(study):
        return ()
    from ablate.runner.identity import edits
    from ablate.spec.reading import read_study

    return edits(results.spec, read_study(Path(study), results.spec.overrides))


def export(
    study: StudyOrName = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="Format of the predictions: csv, or cs224n (the files of Stanford's CS 224N)."
        ),
    ] = "csv",
    only: Only = [],
    seed: Annotated[
        int | None, typer.Option(help="Export the model of this seed. [default: the first planned]")
    ] = None,
    bundle: Annotated[
        bool,
        typer.Option(
            "--bundle", help="Pack the whole study into one file, which `ablate import` opens elsewhere."
        ),
    ] = False,
    models: Annotated[bool, typer.Option("--models", help="Pack the trained models too.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to, or the bundle's file. [default: exports/STUDY, exports/STUDY.zip]"
        ),
    ] = None,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Export the best model and all results. Writes the model and its predictions, all results as CSV
    and parquet, and the score of every item.

    Example: ablate export quickstart --format cs224n
    """
    from ablate.report.as_json import to_json
    from ablate.report.export import export_study
    from ablate.spec.model import levels_text
    from ablate.store.finding import find_study
    from ablate.store.reading import read_results

    place = find_study(study, home, storage)
    if bundle:
        from ablate.files import refuse_other_kinds
        from ablate.runner.bundles import pack

        file = out or Path("exports") / f"{place.study}.zip"
        refuse_other_kinds(file, "the bundle", "--out")
        gone = pack(place, file, models)
        complain(*(f"{folder}: is gone, so its predictions are not in {file}" for folder in gone))
        show({"study": place.study, "files": [str(file)]}, str(file), as_json)
        return
    results = read_results(place)
    exported = export_study(results, out or Path("exports") / place.study, format_, only, seed)
    levels = next(cell.levels for cell in results.cells if cell.hash == exported.cell)
    complain(f"predictions and model: cell {levels_text(levels)}, seed {exported.seed}", *exported.notes)
    show(to_json(exported), "\n".join(exported.files), as_json)


def dashboard(
    study: StudyOrName = None,
    port: Annotated[int, typer.Option(help="Port on localhost.", min=1, max=65535)] = 8080,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Open optuna-dashboard on the study's database. It listens on localhost only.

    Example: ablate dashboard quickstart
    """
    from ablate.runner.dashboard import serve_dashboard
    from ablate.store.finding import find_study

    serve_dashboard(find_study(study, home, storage), port)
