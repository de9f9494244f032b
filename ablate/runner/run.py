"""`ablate run`: from a study file to trials with results. The same call resumes where it stopped."""

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate.design.model import Cell, Design
from ablate.design.only import select
from ablate.design.search import most_trials
from ablate.errors import BadInput, StoreError
from ablate.files import make_folder, refuse_no_folder
from ablate.runner.cadence import checkpoint_seconds
from ablate.runner.checkpoint import remove_checkpoints
from ablate.runner.deleting import forget_smoke, refuse_real_study
from ablate.runner.engines.checking import check_engine
from ablate.runner.engines.registry import ENGINES, open_engine
from ablate.runner.identity import all_defaults, refuse_changes
from ablate.runner.machine import cores, memory_text, visible_gpus, workers_that_fit
from ablate.runner.next_trials import choose_next, turn_to_choose
from ablate.runner.ordering import in_blocks
from ablate.runner.other_code import Recorded, present_code, refuse_other_code, train_again
from ablate.runner.ownership import open_locks, refuse_anothers_files, share_home
from ablate.runner.prefixes import Prefixes
from ablate.runner.prepare import Prepared, prepare
from ablate.runner.process import job_for
from ablate.runner.progress import Bars, Count, Lines
from ablate.runner.requirements import check_cells, check_gpus, gpus_of
from ablate.runner.supervisor import Supervisor
from ablate.runner.timing import measure
from ablate.runner.trial_code import Sources
from ablate.spec.model import StudySpec
from ablate.store.creating import create_store
from ablate.store.places import Place
from ablate.store.reading import has_run, is_smoke, read_results
from ablate.store.results import Look
from ablate.store.writing import Store
from ablate.text import plural, printable


@dataclass(frozen=True)
class Options:
    """What a user may set besides the study file."""

    home: Path | None = None
    storage: str | None = None
    workers: int | None = 1  # None: as many as fit
    engine: str = "local"
    address: str | None = None
    only: Sequence[str] = ()
    overrides: Sequence[str] = ()
    limit: int | None = None
    smoke: bool = False
    max_hours: float | None = None
    max_usd: float | None = None
    extend: bool = False
    retry_failed: bool = False
    code: str | None = None  # if the trainer's code changed: keep or rerun


def run_study(study: Path | Mapping[str, Any], options: Options, console: Console) -> tuple[int, Place]:
    """Run what has no result yet; return the exit code and where the results are.

    Raises:
        BadInput: the study is invalid, or changed since its trials were run. Nothing was written.
        Unavailable: data or weights are neither cached nor downloadable. Nothing was written.
    """
    began = time.monotonic()
    prepared = prepare(study, options.home, options.storage, options.overrides, smoke=options.smoke)
    spec, design, place = prepared.spec, prepared.design, prepared.place
    deadline = began + 3600 * hours_allowed(spec, options)
    check_engine(options.engine, place.url, options.address)
    if options.code == "rerun" and options.only:
        raise BadInput(
            "--code rerun: trains the trials of other versions again in all cells; leave --only out"
        )
    if spec.search and options.only:
        raise BadInput("--only: a search chooses its cells itself; leave --only out")
    chosen = select(design, options.only) if options.only else list(design.cells)
    checkpoint_seconds(spec)
    defaults = all_defaults(design, prepared.trainer)
    sources = Sources(prepared.trainer, spec.folder, list(sys.modules))

    def check() -> None:
        refuse_changes(spec, design, defaults, place, extend=options.extend)
        if options.code is None and has_run(place):
            recorded = Recorded(read_results(place))
            refuse_other_code(present_code(sources, recorded), recorded, str(spec.path or spec.study))

    if design.smoke:
        refuse_real_study(place)
    elif not is_smoke(place):
        check()
    with working_in(spec.folder):
        check_cells(prepared, chosen)
        for part in {part.hash: part for cell in chosen for part in cell.parts.values()}.values():
            sources.named(prepared.trainer.Settings.model_validate(part.settings))
    options = replace(options, workers=options.workers or _fitting_workers(prepared, options, console))
    if not ENGINES[options.engine].several_machines:
        check_gpus(prepared, chosen, options.workers or 1)
    forget_smoke(place)
    for folder in ("trials", "logs", "locks", "cache"):
        refuse_no_folder(place.folder / folder)
    refuse_anothers_files(place)
    make_folder(place.folder)
    with closing(create_store(place, spec, design, defaults)) as store:
        if store.upgraded:
            console.print(printable(store.upgraded), markup=False, highlight=False, soft_wrap=True)
        share_home(store)
        order = run_order(design, spec, store.looks())
        # Checked again, as minutes may have passed.
        store.take_over(spec, design, defaults, order, check)
        if options.code == "rerun":
            train_again(store, sources)
        remove_leftovers(store)
        Prefixes(store, prepared.trainer).tidy()
        if spec.search:
            # No more than can be trained at once: workers choose the rest, each from the results before it.
            _choose(store, prepared, min(options.limit or math.inf, options.workers or 1))
        if options.retry_failed:
            store.retry_failed(None if spec.search else {cell.hash for cell in chosen})
        if spec.looking:
            _choose(store, prepared, 1)
        code = supervise(store, prepared, chosen, options, console, deadline)
    if not place.exists():
        raise StoreError(f"{place.folder}: its database is gone; put it or a copy back and run again")
    return code, place


def hours_allowed(spec: StudySpec, options: Options) -> float:
    """Return the hours after which a run stops, from the options or else from the study's budget.

    Raises:
        BadInput: a limit is not above 0, or it is a cost and the study names no price.
    """
    for option, value in (("--max-hours", options.max_hours), ("--max-usd", options.max_usd)):
        if value is not None and not 0 < value < math.inf:
            raise BadInput(f"{option}: found {value:g}; write a number above 0, or leave the option out")
    price, usd = spec.budget.usd_per_hour, options.max_usd or spec.budget.max_usd
    if usd is not None and price is None:
        raise BadInput(
            "--max-usd: the study does not say what an hour costs; add `budget: {usd_per_hour: 1.212}` with your machine's price"
        )
    hours = options.max_hours or spec.budget.max_hours
    return min(hours or math.inf, usd / price if usd and price else math.inf)


def _fitting_workers(prepared: Prepared, options: Options, console: Console) -> int:
    """Return how many workers fit on this machine, from a few measured steps of each kind; earlier measurements are reused."""
    if ENGINES[options.engine].several_machines:
        raise BadInput(
            f"--workers: auto measures this machine only; give a number for --engine {options.engine}"
        )
    if prepared.trainer.measure is None:
        raise BadInput(
            f"--workers: auto needs `measure`, which {prepared.trainer.name} does not have; give a number"
        )
    measured = measure(prepared, console.print)
    workers = workers_that_fit(measured.memory, cores(), len(visible_gpus()))
    console.print(f"workers: {workers}; {memory_text(measured.memory)}", markup=False, highlight=False)
    return workers


def _choose(store: Store, prepared: Prepared, wanted: float) -> None:
    """Queue up to `wanted` trials of a search, or take a look that is due.

    A look may still be due if the worker that finished its stage was killed. Workers choose all later trials."""
    with closing(open_locks(store.place)) as locks, turn_to_choose(locks) as mine:
        # Otherwise another run is choosing.
        if mine:
            with working_in(prepared.spec.folder):
                while len(store.queue()) < wanted and choose_next(store, prepared.trainer):
                    continue


def supervise(
    store: Store,
    prepared: Prepared,
    chosen: list[Cell],
    options: Options,
    console: Console,
    deadline: float = math.inf,
) -> int:
    """Start workers on what is left of the chosen cells and wait for them, until the deadline by time.monotonic()."""
    search, looking = prepared.spec.search, prepared.spec.looking
    hashes = {cell.hash for cell in chosen}
    left = [queued for queued in store.queue() if search or queued.cell in hashes][: options.limit]
    if not left:
        return 0
    # Trials of a search that its workers will choose.
    next_ = store.next_number()
    chosen_later = range(next_, next_ + (options.limit or 0) - len(left)) if search else range(0)
    # An upper limit: trials that are not chosen yet are not queued.
    if search and options.limit is not None:
        total, done = min(options.limit, most_trials(prepared.spec) - next_ + len(left)), 0
    elif (search or looking) and options.limit is None:
        done = left[0].number
        total = most_trials(prepared.spec) if search else len(hashes) * len(prepared.spec.seeds)
    else:
        total = len(left) if options.limit else len(hashes) * len(prepared.spec.seeds)
        done = total - len(left)
    everything = options.limit is None and len(left) == len(store.queue())
    numbers = None if everything else [*(queued.number for queued in left), *chosen_later]
    job = job_for(store, prepared.spec.folder, numbers, keep_code=options.code == "keep")
    job["gpus"] = gpus_of(prepared, chosen)
    # A worker's share of the machine does not grow if fewer are started: with other threads, the last bits could differ.
    job["workers"] = options.workers or 1
    workers = min(job["workers"], len(left))
    count = Count(done=done, total=total, workers=workers)
    engine = open_engine(options.engine, job, workers, prepared.place.folder / "logs", options.address)
    with Bars(console, count) if console.is_terminal else Lines(console, count) as progress:
        supervisor = Supervisor(engine, workers, progress, deadline)
        code = supervisor.run()
    for line in dict.fromkeys(supervisor.errors):
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if supervisor.out_of_time:
        text = f"stopped at the limit of hours or cost, {plural(len(store.queue()), 'trial')} left; the same command continues"
        console.print(text, highlight=False, soft_wrap=True)
    return code


def remove_leftovers(store: Store) -> None:
    """Remove checkpoints of recorded parts, left by workers that were killed just after recording."""
    for workdir in {file.parent for file in store.place.folder.glob("trials/*/step-*.checkpoint")}:
        part, _, seed = workdir.name.partition("-")
        # Folders with other names may be copies that somebody keeps.
        if seed.isdecimal() and store.trained([part], int(seed)):
            remove_checkpoints(workdir)


def run_order(design: Design, spec: StudySpec, looks: Sequence[Look] = ()) -> list[tuple[str, int]]:
    """Return the (cell, seed) pairs of a design that the study currently needs, in the order to run them."""
    return in_blocks(spec, [cell.hash for cell in design.cells], looks)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Change to the study file's folder, so that relative paths start there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
