"""Commands that train: init, plan, check, run, worker, test."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli.options import Home, Json, Only, Set, Storage, Study, StudyOrName, count
from ablate.cli.printing import complain, say, show


def init(
    name: Annotated[str, typer.Argument(help="Name of the study.")] = "my_study",
    script: Annotated[
        Path | None,
        typer.Option(
            help="A Python script to study: its options are read from the source.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a commented study to start from.

    Example: ablate init sentiment_heads
    """
    from ablate.spec.template import write_study

    say(write_study(name, script))


def plan(
    study: Study,
    measure_: Annotated[
        bool,
        typer.Option("--measure", help="First time a few steps of each kind; later plans reuse the times."),
    ] = False,
    set_: Set = [],
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show cells, trials, shared parts, cost and the smallest detectable effect. Trains nothing.

    Example: ablate plan studies/full_grid.yaml --measure
    """
    from ablate.runner.plan import plan_document, plan_text
    from ablate.runner.prepare import Options, prepare
    from ablate.runner.timing import measure, read_measured

    prepared = prepare(study, Options(home=home, storage=storage, overrides=set_))
    measured = measure(prepared, complain) if measure_ else read_measured(prepared)
    document = plan_document(prepared.spec, prepared.design, prepared.place, measured)
    show(document, plan_text(document), as_json)


def check(
    study: Study,
    minutes: Annotated[
        float,
        typer.Option(
            help="Stop a training after so many minutes; each kind of part is trained about six times.",
            min=0.01,
        ),
    ] = 2.0,
    set_: Set = [],
    as_json: Json = False,
) -> None:
    """Check the trainer before a long run: same seed, same bits; exact resume; metric and predictions there; step time.

    Exit code 0: sound; 1: not. Example: ablate check studies/own_trainer.yaml
    """
    from ablate.runner.trainer_check import check_study, check_text

    document = check_study(study, set_, minutes, complain)
    show(document, check_text(document), as_json)
    raise typer.Exit(int(not document["sound"]))


def run(
    study: Study,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Worker processes; auto: as many as fit, by cores and measured memory.",
        ),
    ] = "1",
    engine: Annotated[str, typer.Option(help="What starts the workers: local, ray or slurm.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of the engine's cluster.", show_default=False)
    ] = None,
    only: Only = [],
    set_: Set = [],
    limit: Annotated[int | None, typer.Option(help="Run at most this many trials.", min=1)] = None,
    smoke: Annotated[
        bool,
        typer.Option(help="Run every cell for a few steps on toy data, as study NAME-smoke, from scratch."),
    ] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(
            help="Save and stop after so many hours. [default: the study's budget]", show_default=False
        ),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(help="The same by cost, at the budget's usd_per_hour.", show_default=False),
    ] = None,
    extend: Annotated[bool, typer.Option(help="Allow new levels and seeds in the study file.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Run failed trials again.")] = False,
    code: Annotated[
        Literal["keep", "rerun"] | None,
        typer.Option(
            help="Where the trainer's code changed since trials were trained. keep: go on, the report flags comparisons "
            "between the two; rerun: train again what is of other code. [default: refuse]",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Run every trial that has no result yet. Safe to interrupt; the same command resumes.

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
        workers=count("--workers", workers),
        engine=engine,
        address=address,
        only=only,
        overrides=set_,
        limit=limit,
        smoke=smoke,
        max_hours=max_hours,
        max_usd=max_usd,
        extend=extend,
        retry_failed=retry_failed,
        code=code,
    )
    exit_code, place = run_study(study, options, Console(stderr=True))
    results = read_results(place)
    show(status_document(results), status_text(results), as_json)
    failed = any(trial.state == "FAIL" for trial in results.trials)
    raise typer.Exit(exit_code or int(failed))


def worker(
    study: StudyOrName = None,
    drain_: Annotated[
        int | None,
        typer.Option(
            "--drain",
            metavar="PID",
            help="Ask a worker on this machine to end after its trial.",
            min=1,
            max=2**31 - 1,
        ),
    ] = None,
    code: Annotated[
        Literal["keep"] | None,
        typer.Option(
            help="keep: go on although the trainer's code here is not what trials were trained with. [default: refuse]",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Join a running study as an extra worker, on this or another machine, until nothing is left.

    Example: ablate worker full_grid --storage postgresql://me@db/ablate --home /shared/runs
    """
    from ablate.runner.signals import drain

    if drain_ is not None:
        drain(drain_)
        print(f"worker {drain_} ends after its trial")
        return
    from ablate.runner.process import work_here
    from ablate.store.finding import find_study, looks_like_path

    folder = Path(study).resolve().parent if study and looks_like_path(study) else None
    raise typer.Exit(work_here(find_study(study, home, storage), folder, keep_code=code == "keep"))


def test(
    study: StudyOrName = None,
    again: Annotated[bool, typer.Option("--again", help="Score once more; the report will say so.")] = False,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Score the best cell on the test split, once, for every seed. Records who did it and when.

    Example: ablate test quickstart
    """
    from ablate.runner.test_split import score_chosen, scores_text
    from ablate.store.finding import find_study

    document = score_chosen(find_study(study, home, storage), again)
    show(document, scores_text(document), as_json)
