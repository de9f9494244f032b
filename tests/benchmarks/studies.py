"""Whole studies, beside a fresh process of plain Hugging Face code for each trial: the same cells, seeds and steps.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/studies.py [--steps 15] [--seeds 3] [--only quickstart]

Both sides keep two processes going, with half the cores each. The metrics stand beside each other: the two draw their items,
their dropout and their heads differently, so they must agree within the noise of seeds, not to the digit. The cells of a seed
share its draws (and here its parts), so the means of all cells are what is tested; single cells are no tests of their own.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import HEADER, Row, seconds
from scipy import stats

from ablate import open_study
from ablate.design.model import Cell
from ablate.runner.prepare import Prepared, prepare
from ablate.trainer.data.pretrained import TINY
from ablate.trainer.data.reading import examples
from ablate.trainer.encoders.loading import tiny
from ablate.trainer.settings import Settings
from ablate.trainer.training.determinism import derive_seed
from ablate.trainer.training.token_cache import tokens_of

ROOT = Path(__file__).parents[2]
PLAIN = Path(__file__).parent / "plain.py"
AT_ONCE = 2
DEV_ROWS = 400  # of each task of the real text


def rows(steps: int, seeds: int, only: str = "") -> Iterator[Row]:
    """Run each study both ways, and yield the ratio; cells are compared below it."""
    if only in "quickstart":
        yield from compared(ROOT / "studies/quickstart.yaml", {}, seeds)
    assets = os.environ.get("ABLATE_TEST_ASSETS")
    if assets and only in "cs224n_minilm":
        given = {"encoder": f"{assets}/weights/minilm-l6-h384", "max_steps": str(steps), "precision": "fp32"}
        files = {"sentiment": "ids-sst", "paraphrase": "quora", "similarity": "sts"}
        for task, name in files.items():
            given[f"data.{task}.files"] = f"{assets}/data/cs224n/{name}-{{split}}.csv.xz"
            given[f"data.{task}.limit.dev"] = str(DEV_ROWS)
        yield from compared(ROOT / "studies/cs224n_minilm.yaml", given, seeds)


def compared(study: Path, given: dict[str, str], seeds: int) -> Iterator[Row]:
    """Run `study` with the settings `given`, both ways."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        copy = folder / study.name
        listed = ", ".join(str(11 * number) for number in range(1, seeds + 1))
        lines = study.read_text().splitlines()
        copy.write_text(
            "\n".join(f"seeds: [{listed}]" if line.startswith("seeds:") else line for line in lines)
        )
        prepared = prepare(copy, home=folder / "runs", overrides=[f"{k}={v}" for k, v in given.items()])
        ours_s = seconds(lambda: ours(copy, given, folder / "runs"))
        frame = open_study(prepared.spec.study, folder / "runs").results()
        trials = [(cell, seed) for cell in prepared.design.cells for seed in prepared.spec.seeds]
        material = {seed: export(prepared, seed, folder / str(seed)) for seed in prepared.spec.seeds}
        found: dict[tuple[str, int], dict[str, float]] = {}

        def one(trial: tuple[Cell, int]) -> None:
            cell, seed = trial
            settings = prepared.trainer.Settings.model_validate(cell.settings)
            found[cell.hash, seed] = plain(settings, seed, *material[seed])

        def theirs() -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(one, trials))

        theirs_s = seconds(theirs)
    what = f"{prepared.spec.study}, {len(trials)} trials, against one plain script per trial"
    yield Row(what, f"{ours_s:.0f} s", f"{theirs_s:.0f} s", f"{theirs_s / ours_s:.1f}", "", "≥ 10")
    own = {
        (cell, seed): trial
        for cell, seed, trial in zip(frame["cell"], frame["seed"], frame.to_dict("records"), strict=True)
    }
    for metric in sorted(found[trials[0][0].hash, trials[0][1]]):
        means = [
            [
                statistics.mean(side[cell.hash, seed][metric] for cell in prepared.design.cells)
                for seed in prepared.spec.seeds
            ]
            for side in (own, found)
        ]
        yield agreement(f"{metric}: mean of all cells", *means)
    for cell in prepared.design.cells:
        levels = ", ".join(f"{k}={v}" for k, v in cell.levels.items())
        sides = [[side[cell.hash, seed]["dev/mean"] for seed in prepared.spec.seeds] for side in (own, found)]
        yield agreement(f"dev/mean: {levels}", *sides)


def agreement(what: str, own: list[float], peer: list[float]) -> Row:
    """Means over seeds with their standard deviation, and the difference with its p by Welch's t."""
    apart = stats.ttest_ind(own, peer, equal_var=False)
    difference = f"{statistics.mean(own) - statistics.mean(peer):+.4f}"
    of_ours, of_theirs = (
        f"{statistics.mean(side):.4f} ± {statistics.stdev(side):.4f}" for side in (own, peer)
    )
    return Row(what, of_ours, of_theirs, difference, f"p {apart.pvalue:.2f}", "")


def ours(study: Path, given: dict[str, str], home: Path) -> None:
    sets = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "ablate", "run", str(study), "--home", str(home), *sets]
    subprocess.run([*command, "--workers", str(AT_ONCE)], check=True, capture_output=True)


def plain(settings: Settings, seed: int, encoder: Path, data: Path) -> dict[str, float]:
    """Run a trial as a script of its own, and return its metrics."""
    sizes, heads = settings.batch_size, settings.model_dump()
    flags = {
        "encoder": encoder,
        "data": data,
        "steps": settings.max_steps,
        "seed": seed,
        "training": settings.training,
        "surgery": settings.surgery,
        "paraphrase": heads["paraphrase_head"],
        "similarity": heads["similarity_head"],
        "dense": settings.dense_size,
        "l2": settings.l2,
        "lr": settings.encoder_lr,
        "dropout": settings.dropout,
        "pooling": settings.pooling,
        "max-length": settings.max_length,
        "eval-every": settings.eval_every,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["--batch", *(str(getattr(sizes, task)) for task in ("sentiment", "paraphrase", "similarity"))]
    words += ["--reshuffle"] * settings.reshuffle + ["--bf16"] * (settings.precision == "bf16")
    threads = max(1, (os.cpu_count() or 1) // AT_ONCE)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PLAIN), *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    metrics: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return metrics


def export(prepared: Prepared, seed: int, folder: Path) -> tuple[Path, Path]:
    """Write the encoder as a folder of transformers' and the text as CSV, as a script would find them."""
    settings = prepared.trainer.Settings.model_validate(prepared.design.cells[0].settings)
    encoder, data = folder / "encoder", folder / "data"
    data.mkdir(parents=True)
    for task, source in settings.sources.items():
        for split in ("train", "dev"):
            found = examples(source, task, split)
            assert found.labels is not None
            with open(data / f"{task.name}-{split}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["id", *task.columns, "label"])
                writer.writerows(zip(found.ids, *found.columns.values(), found.labels.tolist(), strict=True))
    if settings.encoder != TINY:
        return Path(settings.encoder), data
    tokens = tokens_of(settings, folder / "cache")
    tokens.save_tokenizer(encoder)
    tiny(settings, tokens.vocab_size, derive_seed(seed, "encoder")).save_pretrained(encoder)
    return encoder, data


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=15)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--only", default="", help="quickstart or cs224n_minilm")
    args = options.parse_args()
    print(HEADER)
    for found in rows(args.steps, args.seeds, args.only):
        print(found, flush=True)


if __name__ == "__main__":
    main()
