"""The report of a finished study of 10,240 trials, beside `study.trials_dataframe()` of Optuna on the same store.

    python tests/benchmarks/report.py [--factors 11] [--seeds 5] [--rounds 3]

The store holds what workers record: two-level factors, each cell on each seed, three metrics, their curves, provenance.
Both run in processes of their own, in turns: CPU seconds from start to end, imports included, and the most memory held.
The report is the whole of it: reading, statistics, flags, pictures, markdown, HTML and report.json.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import HEADER, Row, ratios, row
from pydantic import create_model

from ablate.contract import Trainer
from ablate.design.cells import build_design
from ablate.runner.run import run_order
from ablate.spec.reading import parse_study
from ablate.store.creating import create_store
from ablate.store.parts import NewPart, Trained
from ablate.store.places import Place, place_of

POINTS = 4  # of each of three curves of a trial
FACTS = {"versions": {"torch": "2.13.0"}, "gpu": "none", "git": "0" * 40, "peak_memory_bytes": 1 << 30}
REPORT = """
from pathlib import Path
from ablate.report.report import write_report
from ablate.store.places import Place
from ablate.store.reading import read_results
write_report(read_results(Place("big", {url!r}, Path({folder!r}))), Path({folder!r}) / "report", ["md", "html"])
"""
FRAME = """
import optuna
optuna.load_study(study_name="big", storage={url!r}).trials_dataframe()
"""


def rows(factors: int = 11, seeds: int = 5, rounds: int = 3) -> Iterator[Row]:
    """Measure, and yield each row."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        place = finished_study(Path(folder), factors, seeds)
        names = {"url": place.url, "folder": str(place.folder)}
        took = [(used(REPORT.format(**names)), used(FRAME.format(**names))) for _ in range(rounds)]
    trials = seeds * 2**factors
    for at, (unit, goal) in enumerate({"CPU s": "10", "peak MB": "1024"}.items()):
        ours, theirs = ([side[at] for side in sides] for sides in zip(*took, strict=True))
        what = f"report of {trials:,} trials, {unit}, against Optuna's `trials_dataframe()` alone"
        # What it costs, as a multiple of theirs.
        yield row(what, ours, theirs, ratios(theirs, ours), f"≤ {goal}")


def used(code: str) -> tuple[float, float]:
    """CPU seconds and peak megabytes of a process that runs `code`; a peak below our own would show as ours."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, "the measured process failed"
    per_mb = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / per_mb


def finished_study(folder: Path, factors: int, seeds: int) -> Place:
    """Record a trial for each cell and seed; the first half of the factors have effects."""
    names = [f"f{i}" for i in range(factors)]
    spec = parse_study(
        f"study: big\ntrainer: made_up\nfactors: {{{', '.join(f'{name}: [0, 1]' for name in names)}}}\n"
        f"baseline: {{{', '.join(f'{name}: 0' for name in names)}}}\ndesign: full\nseeds: {list(range(seeds))}\n"
        "metric: {name: dev/a, smallest_effect: 0.005}\n"
    )
    design = build_design(spec, trainer(names))
    place = place_of("big", folder, None)
    place.folder.mkdir(parents=True)
    store = create_store(place, spec, design)
    store.add_trials(design.cells, run_order(design, spec))
    cells = {cell.hash: cell for cell in design.cells}
    rng = np.random.default_rng(0)
    gains = np.linspace(0.02, 0, factors)
    for queued in store.queue():
        cell = cells[queued.cell]
        score = 0.6 + gains @ list(cell.levels.values()) + rng.normal(0, 0.01)
        metrics = {f"dev/{name}": float(score + rng.normal(0, 0.01)) for name in "abc"}
        points = [
            (step, name, value - 0.1 / (step + 1))
            for name, value in metrics.items()
            for step in range(POINTS)
        ]
        claim = store.claim(queued.trial_id)
        assert claim is not None
        (part,) = cell.parts.values()
        store.complete(
            claim, metrics, NewPart(part.hash, queued.seed, Trained(metrics, 30.0, 200, FACTS), points)
        )
    store.engine.dispose()
    return place


def trainer(names: list[str]) -> Trainer:
    """What the store asks of a trainer; nothing is trained."""
    module = type(sys)("made_up")
    fields: dict[str, Any] = dict.fromkeys(names, (int, 0))
    vars(module).update(
        __file__=__file__, Settings=create_model("Settings", **fields), train=lambda settings, context: {}
    )
    return Trainer(module)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--factors", type=int, default=11)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    print(HEADER)
    for one in rows(args.factors, args.seeds, args.rounds):
        print(one, flush=True)


if __name__ == "__main__":
    main()
