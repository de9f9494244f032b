"""Studies from Python, in a script or a notebook: the commands' results as values and data frames.

Libraries are imported when needed, so `import ablate` is fast."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas

    from ablate.report.document import Report
    from ablate.store.places import Place


class Study:
    """A study that has been run, opened for reading. Every call reads the trials again."""

    def __init__(self, place: "Place") -> None:
        self.place = place

    def results(self) -> "pandas.DataFrame":
        """Return one row per trial: cell, seed, number, state, each factor, each metric, seconds."""
        from ablate.evidence.frames import tidy_frame
        from ablate.store.reading import read_results

        return tidy_frame(read_results(self.place))

    def status(self) -> dict[str, Any]:
        """Return what `ablate status --json` prints."""
        from ablate.runner.status import status_document
        from ablate.store.reading import read_results

        return status_document(read_results(self.place))

    def cells(self) -> "pandas.DataFrame":
        """Return one row per cell: levels, and each metric's mean, 95 % interval and difference from the reference."""
        return self._table("cells")

    def effects(self) -> "pandas.DataFrame":
        """Return one row per effect and metric: estimate, se, df, 95 % interval, p, Holm's p and verdict."""
        return self._table("effects")

    def flags(self) -> "pandas.DataFrame":
        """Return what is wrong with the study, the worst first: severity, rule, evidence and how to fix it."""
        return self._table("flags")

    def report(
        self, folder: Path | str | None = None, formats: Sequence[str] = ("md", "html")
    ) -> dict[str, Any]:
        """Return what `ablate report --json` prints; with a `folder`, write the report's files there too.

        Raises:
            BadInput: a format that is not known.
            OSError: the folder cannot be written.
        """
        from ablate.report.as_json import to_json
        from ablate.report.report import write_report
        from ablate.store.reading import read_results

        if folder is None:
            return dict(to_json(self._report()))
        return dict(to_json(write_report(read_results(self.place), Path(folder), formats)))

    def _report(self) -> "Report":
        from ablate.report.report import report_of
        from ablate.store.reading import read_results

        return report_of(read_results(self.place))

    def _table(self, name: str) -> "pandas.DataFrame":
        import pandas

        from ablate.report.render.csv import tables

        columns, rows = tables(self._report())[name]
        return pandas.DataFrame({column: [row.get(column) for row in rows] for column in columns})

    def __repr__(self) -> str:
        return f"Study({self.place.study!r}, in {str(self.place.folder)!r})"

    def _repr_html_(self) -> str:
        """Return the verdicts and the forest plot, as notebooks show them."""
        from ablate.report.render.html import render_summary

        return render_summary(self._report())


def open_study(
    study: Path | str | Mapping[str, Any], home: Path | str | None = None, storage: str | None = None
) -> Study:
    """Open a study by its name, its file or its mapping; `home` and `storage` as on the command line.

    Raises:
        BadInput: there is no such study.
    """
    from ablate.store.finding import find_study

    named = study.get("study") if isinstance(study, Mapping) else study
    return Study(find_study(str(named), _path(home), storage))


def plan(
    study: Path | str | Mapping[str, Any], home: Path | str | None = None, storage: str | None = None
) -> dict[str, Any]:
    """Return what `ablate plan --json` prints for a study file, or for a mapping with the same keys. Trains nothing.

    Raises:
        BadInput: the study, its trainer or a cell is invalid.
    """
    from ablate.runner.plan import plan_document
    from ablate.runner.prepare import prepare
    from ablate.runner.timing import read_measured

    prepared = prepare(_source(study), _path(home), storage)
    return plan_document(
        prepared.spec,
        prepared.design,
        prepared.place,
        read_measured(prepared),
        trainer=prepared.trainer,
    )


def run(
    study: Path | str | Mapping[str, Any],
    workers: int | None = 1,
    *,
    home: Path | str | None = None,
    storage: str | None = None,
    limit: int | None = None,
    only: str | Sequence[str] = (),
    smoke: bool = False,
    max_hours: float | None = None,
    max_usd: float | None = None,
    extend: bool = False,
    retry_failed: bool = False,
    code: Literal["keep", "rerun"] | None = None,
) -> Study:
    """Run every trial that has no result yet, as `ablate run`; safe to interrupt, the same call resumes.

    Trials that fail are rows of `results()` with their error; nothing is raised for them.

    Args:
        study: A study file, or a mapping with the same keys, in which paths are relative to the working directory.
        workers: Worker processes; None: as many as fit on this machine, by measured memory.
        home, storage: Where results are kept, as on the command line.
        limit: Run at most this many trials; 0 runs none. All trials that are planned so far are added to the database.
        only: Only these cells: each item is `factor=level`, `baseline` or `best`.
        smoke: Run a small version of every cell, if the trainer has `smoke` (otherwise in full), as study NAME-smoke.
        max_hours, max_usd: Save and stop after this many hours, or at this cost by the study's `usd_per_hour`.
        extend: Allow new levels and seeds in the study.
        retry_failed: Run failed trials again.
        code: What to do if the trainer's code has changed since trials were trained: "keep" continues, "rerun" trains again
            what was trained with other code, None refuses.

    Raises:
        BadInput: the study is invalid, or it or its code has changed since its trials were run. Nothing was written.
        Unavailable: data or weights are neither cached nor downloadable. Nothing was written.
        AblateError: the run stopped on an error outside any trial (a full disk, a database that cannot be reached); stderr
            has it.
        KeyboardInterrupt: interrupted, after every worker saved a checkpoint.
    """
    from ablate.errors import AblateError, BadInput
    from ablate.runner.progress import Messages
    from ablate.runner.run import Options, run_study

    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise BadInput(f"workers: found {workers!r}; give a number, 1 or more, or None for as many as fit")
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise BadInput(f"limit: found {limit!r}; give a number, 0 or more, or None for all")
    if code not in ("keep", "rerun", None):
        raise BadInput(f'code: found {code!r}; give "keep", "rerun" or None')
    options = Options(
        home=_path(home),
        storage=storage,
        workers=workers,
        limit=limit,
        only=[only] if isinstance(only, str) else only,
        smoke=smoke,
        max_hours=max_hours,
        max_usd=max_usd,
        extend=extend,
        retry_failed=retry_failed,
        code=code,
    )
    exit_code, place = run_study(_source(study), options, Messages())
    if exit_code > 128:
        raise KeyboardInterrupt
    if exit_code:
        raise AblateError(
            f"{place.study}: the run stopped on an error, see the messages above; the same call continues"
        )
    return Study(place)


def _source(study: Path | str | Mapping[str, Any]) -> Path | Mapping[str, Any]:
    from ablate.errors import BadInput

    if isinstance(study, Mapping):
        return study
    if isinstance(study, str | Path):
        return Path(study)
    raise BadInput(f"study: found {study!r}; give a study file's path, or a mapping with the same keys")


def _path(folder: Path | str | None) -> Path | None:
    return None if folder is None else Path(folder)
