"""`ablate run`: from a study file to trials with results. The same call again goes on where it stopped."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from ablate.design.model import Cell, Design
from ablate.design.selection import select
from ablate.runner.drift import refuse_drift
from ablate.runner.prepare import Options, Prepared, prepare
from ablate.runner.process import checkpoint_seconds
from ablate.runner.progress import Bars, Count, Lines
from ablate.runner.supervisor import Supervisor
from ablate.spec.model import StudySpec
from ablate.store.places import Place
from ablate.store.writing import Store, create_store


def run_study(path: Path, options: Options, console: Console) -> tuple[int, Place]:
    """Run what has no result yet; return the exit code and where the results are.

    Raises:
        BadInput: the study is not sound, or changed since its trials were run. Nothing was written.
        Unavailable: data or weights could not be had. Nothing was written.
    """
    prepared = prepare(path, options)
    spec, design, place = prepared.spec, prepared.design, prepared.place
    chosen = select(design, options.only) if options.only else list(design.cells)
    if place.exists():
        refuse_drift(spec, design, place, extend=options.extend)
    with working_in(spec.folder):
        for cell in chosen:
            prepared.trainer.check(prepared.trainer.Settings.model_validate(cell.settings))
    place.folder.mkdir(parents=True, exist_ok=True)
    store = create_store(place.url, spec, design)
    store.add_trials(design.cells, run_order(design, spec))
    if options.retry_failed:
        store.retry_failed()
    return supervise(store, prepared, chosen, options, console), place


def supervise(
    store: Store, prepared: Prepared, chosen: list[Cell], options: Options, console: Console
) -> int:
    """Start workers on what is left of the chosen cells and wait for them."""
    hashes = {cell.hash for cell in chosen}
    left = [queued for queued in store.queue() if queued.cell in hashes][: options.limit]
    if not left:
        return 0
    total = len(hashes) * len(prepared.spec.seeds) if options.limit is None else len(left)
    count = Count(done=total - len(left), total=total, workers=options.workers)
    everything = len(left) == len(store.queue())
    job = {
        "url": prepared.place.url,
        "study": prepared.spec.study,
        "study_folder": str(prepared.spec.folder.resolve()),
        "folder": str(prepared.place.folder),
        "checkpoint_seconds": checkpoint_seconds(prepared.spec),
        "numbers": None if everything else [queued.number for queued in left],
    }
    with Bars(console, count) if console.is_terminal else Lines(console, count) as progress:
        supervisor = Supervisor(
            job, min(options.workers, len(left)), prepared.place.folder / "logs", progress
        )
        code = supervisor.run()
    for line in dict.fromkeys(supervisor.errors):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return code


def run_order(design: Design, spec: StudySpec) -> list[tuple[str, int]]:
    """Return (cell, seed) in the order to run: seeds are complete blocks, cells random inside each.

    A study cut short has thereby compared as many cells as it could on equal terms."""
    order = []
    for seed in spec.seeds:
        block = [cell.hash for cell in design.cells]
        random.Random(f"{spec.study} {seed}").shuffle(block)
        order += [(cell, seed) for cell in block]
    return order


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make relative paths mean what they mean in the study file."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
