"""Estimate how long training takes on this machine: time a few steps of each kind on their own data and weights, and extrapolate.

Steps are of one kind if all that their time depends on is equal (encoder, tasks, batch sizes, precision, ...). Each kind is
timed once: some steps after a warm-up, the embedding of a slice of dev, the time before the first step and after the last. A
kind that did not fit into the time budget is estimated from the most similar kind that was timed (the same tasks if possible),
per item of a step. Checkpoints, other processes and changing clock rates are not accounted for.
"""

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ablate.contract import Context, Stopped
from ablate.trainer.data.tokens import Indices, Ragged, TaskSplit
from ablate.trainer.encoders.embedding import Live
from ablate.trainer.parts import parts as parts_of
from ablate.trainer.settings import HEADS, Settings
from ablate.trainer.training.determinism import catch_out_of_memory, deterministic
from ablate.trainer.training.loop import Training
from ablate.trainer.training.saving import save_results
from ablate.trainer.training.scoring import predict
from ablate.trainer.training.stages import plan_stages
from ablate.trainer.training.token_cache import tokens_of

BUDGET_S = 60.0  # after this, no further kind is timed
STEPS, STEPS_S = 20, 3.0  # how many steps of a kind are timed; fewer if they take this many seconds
DEV_ROWS = 64  # how many dev rows of each task are embedded
FROZEN_ROWS = 512  # training rows to keep, since a frozen encoder embeds all of them before the first step

# Settings that hardly change the time of a step: the number of steps, rates, and heads (which are small beside the encoder).
# `training` is among them since `separate` and `sequential` are timed as `joint` training of each task alone.
INDIFFERENT = {
    *("training", "dense_size", *HEADS.values(), "reshuffle", "epochs", "max_steps", "lr", "schedule"),
    *("mix_temperature", "main_task", "warmup", "l2", "l2_kind", "clip", "eval_every", "patience", "select"),
}


@dataclass(frozen=True)
class Pace:
    """How long one kind of training takes on this machine."""

    step_s: float
    items: int  # items in a step
    token_s: float  # seconds to embed one token without training on it
    rest_s: float  # before the first step and after the last


def measure(trainings: Mapping[str, Settings], context: Context) -> dict[str, float]:
    """Return the seconds that each of `trainings` will take in a process that has already trained."""
    stages = {name: _stages(settings) for name, settings in trainings.items()}
    every_stage = [stage for of_training in stages.values() for stage in of_training]
    kinds = Counter(map(_kind, every_stage))
    of_kind = {_kind(stage): stage for stage in every_stage}
    paces: dict[str, Pace] = {}
    ends = time.monotonic() + BUDGET_S
    for kind, _ in kinds.most_common():
        if not paces or time.monotonic() < ends:
            with deterministic(context.device), catch_out_of_memory(context.device):
                paces[kind] = _timed(of_kind[kind], context)
    context.facts["measured"] = f"{len(paces)} of {len(kinds)} kinds of steps"
    embedded: set[str] = set()
    return {name: _seconds(of_training, paces, context, embedded) for name, of_training in stages.items()}


def _stages(settings: Settings) -> list[Settings]:
    """Return the settings of each stage as a part of its own."""
    if settings.training == "joint":
        return [settings]
    return list(parts_of(settings.model_copy(update={"training": "separate"})).values())


def _kind(stage: Settings) -> str:
    return stage.model_dump_json(exclude=INDIFFERENT)


# Timing ---------------------------------------------------------------------------------------------------------


def _timed(stage: Settings, context: Context) -> Pace:
    watch = _Stopwatch(context)
    with contextlib.suppress(Stopped):
        Training(_steps_only(stage), watch).run()
    began = time.perf_counter()
    # Set up a second time, now that everything is warm, as in a worker.
    training = Training(stage, watch)
    save_results(context.workdir, stage, training.encoder, training.heads, training.tokens)
    rest_s = time.perf_counter() - began
    return Pace(watch.step_s, _items(stage), _token_s(training), rest_s)


def _steps_only(stage: Settings) -> Settings:
    """Return the same steps without evaluations, and with little text for a frozen encoder to embed first."""
    if stage.freeze_encoder:
        stage = stage.limited(lambda source: _cut(source.limit))
    return stage.model_copy(update={"eval_every": 10**9, "max_steps": STEPS + 2})


def _cut(limit: Mapping[str, int]) -> dict[str, int]:
    rows = {"train": FROZEN_ROWS, "dev": DEV_ROWS}
    return {**limit, **{split: min(n, limit.get(split, n)) for split, n in rows.items()}}


class _Stopwatch:
    """A context that stops training after a few steps."""

    def __init__(self, outer: Context) -> None:
        self.seed, self.device = outer.seed, outer.device
        self.workdir, self.cache = outer.workdir, outer.cache
        self.attempt, self.gpus, self.stopping = outer.attempt, outer.gpus, outer.stopping
        self.facts: dict[str, Any] = {}
        self._done_at: dict[int, float] = {}  # step -> its end

    @property
    def step_s(self) -> float:
        """Mean seconds of a step; the first step is a warm-up and left out."""
        last = max(self._done_at)
        return (self._done_at[last] - self._done_at[1]) / (last - 1)

    def restore(self) -> None:
        return None

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        now = self._done_at.setdefault(step, time.perf_counter())
        if step > STEPS or (step > 1 and now - self._done_at[1] >= STEPS_S):
            raise Stopped

    def prefix(self, *what: Any) -> None:
        return None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        return None

    def predictions(self, *items: Any, **clusters: Any) -> None:
        return None


def _token_s(training: Training) -> float:
    """Return the seconds to embed a token of dev, timed on rows spread over each task's dev split."""
    tasks = training.settings.tasks
    slices = {task: {"dev": _slice(training.tokens.tasks[task]["dev"])} for task in tasks}
    live = Live(training.encoder, replace(training.tokens, tasks=slices), training.settings, training.device)
    began = time.perf_counter()
    for task in tasks:
        # This ends on the CPU, so nothing is still running on a GPU.
        predict(training.heads[task], live.whole(task, "dev", lambda: None), f"dev/{task}")
    return (time.perf_counter() - began) / sum(splits["dev"].total_tokens for splits in slices.values())


def _slice(split: TaskSplit) -> TaskSplit:
    rows = np.linspace(0, split.n - 1, min(split.n, DEV_ROWS)).astype(np.int64)
    first, *second = (_rows(column, rows) for column in split.columns)
    return replace(split, first=first, second=second[0] if second else None)


def _rows(column: Ragged, rows: Indices) -> Ragged:
    tokens, lengths = column.take(rows)
    types = None if column.types is None else column.take_types(rows)
    return Ragged(tokens, np.cumsum([0, *lengths], dtype=np.int64), types)


# Extrapolating --------------------------------------------------------------------------------------------------


def _seconds(
    stages: list[Settings], paces: Mapping[str, Pace], context: Context, embedded: set[str]
) -> float:
    """Return the seconds of one part.

    `embedded`: splits that a frozen encoder has embedded for earlier parts; those of this part are added."""
    total, dev_tokens = 0.0, 0
    for settings in stages:
        pace = paces[_nearest(_kind(settings), paces)]
        splits = tokens_of(settings, context.cache).tasks
        sizes = {task: by_name["train"].n for task, by_name in splits.items()}
        (stage,) = plan_stages(settings, sizes, context.seed)
        total += stage.steps * pace.step_s * _items(settings) / pace.items
        if settings.freeze_encoder:
            total += _to_embed(settings, splits, embedded) * pace.token_s
            continue
        # An evaluation also scores the tasks of earlier stages.
        dev_tokens += sum(by_name["dev"].total_tokens for by_name in splits.values())
        evaluations = math.ceil(stage.steps / (settings.eval_every or stage.mixture.steps_per_epoch))
        total += evaluations * dev_tokens * pace.token_s
    return total + pace.rest_s


def _nearest(kind: str, paces: Mapping[str, Pace]) -> str:
    """Return `kind` if it was timed, else the timed kind that shares most settings, preferably with the same tasks."""
    if kind in paces:
        return kind
    target = json.loads(kind)

    def shared(other: str) -> tuple[bool, int]:
        settings = json.loads(other)
        return settings["tasks"] == target["tasks"], sum(settings[key] == target[key] for key in target)

    return max(paces, key=shared)


def _to_embed(settings: Settings, splits: Mapping[str, Mapping[str, TaskSplit]], embedded: set[str]) -> int:
    """Return how many tokens a frozen encoder still has to embed for `settings`, and add them to `embedded`."""
    depends_on = settings.model_dump_json(include={"encoder", "pooling", "max_length", "precision"})
    needed = {
        f"{depends_on} {task} {split.data_hash}": split.total_tokens
        for task, by_name in splits.items()
        for split in by_name.values()
    }
    tokens = sum(count for key, count in needed.items() if key not in embedded)
    embedded.update(needed)
    return tokens


def _items(stage: Settings) -> int:
    return sum(stage.batch_sizes.values())
