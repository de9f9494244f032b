"""Commands that train: init, plan, check, run, worker, test."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli.options import Home, Json, Only, Set, Storage, Study, StudyOrName, count
from ablate.cli.printing import complain, say, show
from ablate.errors import BadInput
from ablate.runner.engines.registry import ENGINES
from ablate.text import listed


def init(
    name: Annotated[str, typer.Argument(help="Name of the study.")] = "my_study",
    script: Annotated[
        Path | None,
        typer.Option(
            help="A Python script to study: its options are read from the source.", show_default=False
        ),
    ] = None,
    template: Annotated[
        Literal["script", "transformers", "multitask", "csv"] | None,
        typer.Option(
            help="Start from a script with options, a transformers Trainer, several tasks in one model, or a CSV file "
            "of sentences; also writes the other files that the study needs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a commented study to start from. A template runs as it is. With --script, the metric may be a guess: check it.

    Example: ablate init sentiment_heads --template csv
    """
    from ablate.spec.template import write_study

    if script and template:
        raise BadInput("--script writes a study of your script, --template one of ours; give one of them")
    say(write_study(name, script, template or "study"))


def plan(
    study: Study,
    measure_: Annotated[
        bool,
        typer.Option("--measure", help="Time a few steps of each kind first; later plans reuse the times."),
    ] = False,
    set_: Set = [],
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Show cells, trials, cost and the smallest detectable effect. Trains nothing, except a few steps with --measure.

    Example: ablate plan studies/full_grid.yaml --measure
    """
    from ablate.runner.plan import plan_document, plan_text
    from ablate.runner.prepare import prepare
    from ablate.runner.timing import measure, read_measured

    prepared = prepare(study, home, storage, set_)
    measured = measure(prepared, complain) if measure_ else read_measured(prepared)
    document = plan_document(
        prepared.spec,
        prepared.design,
        prepared.place,
        measured,
        trainer=prepared.trainer,
    )
    show(document, plan_text(document), as_json)


def check(
    study: Study,
    minutes: Annotated[
        float,
        typer.Option(
            help="Stop training a part after this many minutes. Each kind of part is trained about six times.",
            min=0.01,
        ),
    ] = 2.0,
    set_: Set = [],
    as_json: Json = False,
) -> None:
    """Check that the trainer is sound. It must be reproducible, resume exactly, and return the metric and predictions.

    Exit code 0: sound; 1: not. Example: ablate check studies/own_trainer.yaml
    """
    from ablate.runner.check.study import check_study, check_text

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
    engine: Annotated[str, typer.Option(help=f"What starts the workers: {listed(ENGINES, 9)}.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: the address of the head node. With slurm: leave it out; `local` tries the engine "
            "without Slurm.",
            show_default=False,
        ),
    ] = None,
    only: Only = [],
    set_: Set = [],
    limit: Annotated[
        int | None,
        typer.Option(
            help="Run at most this many trials; 0 runs none. All trials that are planned so far are added to the database.",
            min=0,
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            help="Run a small version of every cell, if the trainer has `smoke` (ours: a few steps on the built-in corpus; "
            "otherwise in full), as study NAME-smoke, from scratch."
        ),
    ] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(
            help="Save and stop after this many hours. [default: the study's budget]", show_default=False
        ),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(
            help="Save and stop at this cost: hours times the budget's usd_per_hour.", show_default=False
        ),
    ] = None,
    extend: Annotated[
        bool, typer.Option(help="Allow new levels and seeds in the study file; new seeds raise a STOP flag.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option(help="Run failed trials again.")] = False,
    code: Annotated[
        Literal["keep", "rerun"] | None,
        typer.Option(
            help="What to do if the trainer's code has changed. keep: continue; the report flags comparisons across "
            "versions. rerun: retrain the trials of other versions. [default: refuse]",
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
    from ablate.runner.progress import Messages
    from ablate.runner.run import Options, run_study
    from ablate.runner.status import status_document, status_text
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
    exit_code, place = run_study(study, options, Messages())
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
            help="Ask a worker on this machine to end after its trial; STUDY is not needed.",
            min=1,
            max=2**31 - 1,
        ),
    ] = None,
    code: Annotated[
        Literal["keep"] | None,
        typer.Option(
            help="keep: continue although the trainer's code differs from the recorded one. [default: refuse]",
            show_default=False,
        ),
    ] = None,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Join a running study as an extra worker. It works until no trial is left, on this or another machine.

    Example: ablate worker full_grid --storage postgresql://me@db/ablate --home /shared/runs
    """
    from ablate.runner.signals import drain

    if drain_ is not None:
        drain(drain_)
        print(f"worker {drain_} ends after its trial")
        return
    from ablate.runner.machine import take_worker_environment
    from ablate.runner.process import work_here
    from ablate.store.finding import find_study, looks_like_path

    take_worker_environment()
    # The file itself may be a link; the trainer is beside the link, as for `ablate run`.
    folder = Path(study).parent.resolve() if study and looks_like_path(study) else None
    raise typer.Exit(work_here(find_study(study, home, storage), folder, keep_code=code == "keep"))


def test(
    study: StudyOrName = None,
    again: Annotated[bool, typer.Option("--again", help="Score once more; the report will say so.")] = False,
    home: Home = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Score the best cell on the test split, once. Scores the model of every seed, and records who did it and when.
    Do this last: if trials have no result yet, the report says that the split was used too early.

    Example: ablate test quickstart
    """
    from ablate.runner.test_split import score_chosen, scores_text
    from ablate.store.finding import find_study

    document = score_chosen(find_study(study, home, storage), again)
    show(document, scores_text(document), as_json)
