"""Optimizer steps, evaluation and frozen features of `ablate.trainer` beside Hugging Face.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/training.py [--rounds 9] [--only joint]

With ABLATE_TEST_ASSETS: its MiniLM and CS224N's text. Without: the same encoder from the hub, and the built-in corpus.

Our arm is the trainer's own step (`Training`), with all it does; peers are plain.py's model with PCGrad as published, and
transformers' `Trainer`. All take the same items in the same order, in turns, so that a ratio compares neighbours in time.
Each batch is run once before it is timed: oneDNN compiles a kernel for each new number of tokens, which a long training has
soon seen. Before that, their losses with dropout off must be equal.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from measure import HEADER, Row, ratios, row, seconds
from plain import MultitaskBert, pad, pc_backward
from torch import Tensor, nn
from transformers import AutoModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from ablate.trainer.encoders import loading as encoders
from ablate.trainer.settings import Settings
from ablate.trainer.training.determinism import deterministic
from ablate.trainer.training.loop import Training

sys.path.insert(0, str(Path(__file__).parents[1]))
from trainer_context import Notebook  # it stands where tests find it

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Without units for bf16, torch's products in bf16 take 9 to 65 times as long as in fp32: no peer would use them.
BF16 = DEVICE.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
PRECISIONS = ("fp32", "bf16") if BF16 else ("fp32",)
HUB_ENCODER = "nreimers/MiniLM-L6-H384-uncased"
TASKS = ("sentiment", "paraphrase", "similarity")
TRAIN_ROWS = 2000  # of each task: lengths are what matters
FILES = {"sentiment": "ids-sst", "paraphrase": "quora", "similarity": "sts"}

Draw = dict[str, tuple[list[list[int]], Tensor]]  # task -> first sentences, then second ones; labels


def wait() -> None:
    """Until the device is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def settings(**changed: Any) -> Settings:
    """The paper's best heads on real text."""
    limits = {"limit": {"train": TRAIN_ROWS, "dev": TRAIN_ROWS}}
    data: dict[str, dict[str, Any]] = {task: dict(limits) for task in TASKS}
    encoder = HUB_ENCODER
    if assets := os.environ.get("ABLATE_TEST_ASSETS"):
        encoder = f"{assets}/weights/minilm-l6-h384"
        for task, name in FILES.items():
            data[task]["files"] = f"{assets}/data/cs224n/{name}-{{split}}.csv.xz"
        data["paraphrase"] |= {"splits": {"train": "train-recovered"}, "blank_labels": "drop"}
    base = {"encoder": encoder, "data": data, "schedule": "constant", "warmup": 0.0, "clip": 0.0}
    heads = {"paraphrase_head": "difference", "similarity_head": "siamese", "max_steps": 100_000}
    return Settings.model_validate({**base, **heads, **changed})


def sizes(*values: int) -> dict[str, int]:
    return dict(zip(TASKS, values, strict=True))


# Arms -------------------------------------------------------------------------------------------------------


class Ours:
    """A trial of ours; `step(k)` takes its k-th step."""

    def __init__(self, folder: Path, **changed: Any) -> None:
        encoders._warm.clear()  # each arm trains weights of its own
        context = Notebook(folder)
        context.device = str(DEVICE)
        self.training = Training(settings(**changed), context)

    def step(self, number: int) -> None:
        with deterministic(str(DEVICE)):
            self.training.step = number
            self.training._take_step()

    def draw(self, number: int) -> Draw:
        """What step `number` trains on, as plain lists."""
        found = {}
        for task, indices in self.training.stage.mixture.step(number).items():
            items = self.training.tokens.tasks[task]["train"]
            sentences = []
            for column in (items.first, items.second):
                if column is not None:
                    tokens, lengths = column.take(indices)
                    sentences += [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]
            found[task] = (sentences, torch.from_numpy(np.asarray(items.labels)[indices]).float().to(DEVICE))
        return found

    def losses(self, number: int) -> dict[str, float]:
        """Of each task, with dropout off."""
        trial = self.training
        modules = [trial.encoder.module, *trial.heads.values()]
        for module in modules:
            module.eval()
        batches = trial.stage.mixture.step(number)
        with torch.no_grad():
            (pairs,) = trial.embedder.batches(batches, None)
            found = {task: float(trial._loss(task, batches[task], pair)) for task, pair in pairs.items()}
        for module in modules:
            module.train()
        return found


class HuggingFace:
    """plain.py's model with the weights of `ours`, and its step."""

    def __init__(self, ours: Ours, bf16: bool = False, surgery: bool = False) -> None:
        trial = ours.training
        bert = AutoModel.from_pretrained(
            trial.settings.encoder, dtype=torch.float32, add_pooling_layer=False
        ).to(DEVICE)
        model = MultitaskBert(bert, trial.settings.dense_size, "difference", "siamese", "cls", 0.1).to(DEVICE)
        for task, head in trial.heads.items():
            pairs = zip(model.heads[task].parameters(), head.parameters(), strict=True)
            for theirs, own in pairs:
                theirs.data.copy_(own.data)
        parameters = [
            *bert.parameters(),
            *(p for task in trial.heads for p in model.heads[task].parameters()),
        ]
        self.model, self.bf16, self.surgery = model.train(), bf16, surgery
        self.optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.0, fused=True)

    def loss(self, task: str, sentences: list[list[int]], labels: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bf16):
            embedded = self.model.embed(*pad(sentences, DEVICE))
        return self.model.loss(task, embedded, labels)

    def step(self, draw: Draw) -> None:
        losses = [self.loss(task, *batch) for task, batch in draw.items()]
        if self.surgery:
            pc_backward(self.optimizer, losses)
        else:
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()

    def losses(self, draw: Draw) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            found = {task: float(self.loss(task, *batch)) for task, batch in draw.items()}
        self.model.train()
        return found


def check_losses(ours: Ours, peer: HuggingFace, numbers: range) -> None:
    """Refuse to compare arms that compute different things."""
    tolerance = 0.05 if peer.bf16 or ours.training.settings.precision == "bf16" else 1e-4
    for number in numbers:
        own, theirs = ours.losses(number), peer.losses(ours.draw(number))
        for task, value in own.items():
            assert abs(value - theirs[task]) < tolerance, f"{task}: losses differ: {value}, {theirs[task]}"


# Rows -------------------------------------------------------------------------------------------------------


def rows(rounds: int, only: str = "") -> Iterator[Row]:
    """Measure, and yield each row as it is known."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        for batch in (sizes(2, 32, 2), sizes(8, 8, 8)):
            if only in "joint":
                yield from joint(folder / "work", batch, rounds)
        for task, size in (("sentiment", 2), ("sentiment", 32), ("paraphrase", 2), ("paraphrase", 32)):
            if only in "single":
                yield from single(folder / "work", task, size, rounds)
        if only in "evaluation":
            yield from evaluation(folder / "work", rounds)
        if only in "frozen":
            yield frozen(folder / "work", rounds)


def joint(folder: Path, batch: Mapping[str, int], rounds: int) -> Iterator[Row]:
    """One step of all three tasks."""
    own = {
        (surgery, precision): Ours(folder, batch_size=batch, surgery=surgery, precision=precision)
        for surgery in ("pcgrad", "none")
        for precision in PRECISIONS
    }
    exact = own["none", "fp32"]
    peers = {
        "hf + pcgrad": HuggingFace(exact, surgery=True),
        "hf": HuggingFace(exact),
        **({"hf bf16": HuggingFace(exact, bf16=True)} if BF16 else {}),
    }
    for (_, precision), arm in own.items():
        check_losses(arm, peers["hf bf16" if precision == "bf16" else "hf"], range(2))
    took: dict[Any, list[float]] = {name: [] for name in (*own, *peers)}
    for number in range(rounds):
        draw = exact.draw(number)
        turns: dict[Any, Callable[[], None]] = {
            **{name: partial(arm.step, number) for name, arm in own.items()},
            **{name: partial(peer.step, draw) for name, peer in peers.items()},
        }
        for step in turns.values():
            step()
        for name, step in turns.items():
            took[name].append(seconds(step, wait))
    what = f"joint step {'/'.join(map(str, batch.values()))}"

    def against(name: tuple[str, str], peer: Any, label: str, goal: str) -> Row:
        times = ratios(took[name], took[peer])
        return row(f"{what}, {label}", in_ms(took[name]), in_ms(took[peer]), times, goal, "ms")

    yield against(("pcgrad", "fp32"), "hf + pcgrad", "PCGrad, against HF + Pytorch-PCGrad", "≥ 12")
    yield against(("none", "fp32"), "hf", "no surgery, against HF", "≥ 4")
    yield against(("none", "fp32"), ("pcgrad", "fp32"), "what surgery costs (PCGrad against none)", "≤ 1.15")
    if BF16:
        yield against(("pcgrad", "bf16"), "hf + pcgrad", "PCGrad in bf16, against the same in fp32", "≥ 18")
        yield against(("none", "bf16"), "hf", "no surgery in bf16, against HF in fp32", "")
        yield against(("none", "bf16"), "hf bf16", "no surgery in bf16, against HF in bf16", "")
        yield against(("none", "bf16"), ("pcgrad", "bf16"), "what surgery costs in bf16", "")


def single(folder: Path, task: str, size: int, rounds: int) -> Iterator[Row]:
    """One task, against transformers' Trainer: both clip gradients at 1, which is its default."""
    steps = 3 * rounds
    changed = {"tasks": [task], "batch_size": {task: size}, "clip": 1.0}
    own = {precision: Ours(folder, precision=precision, **changed) for precision in PRECISIONS}
    exact = own["fp32"]
    peers = {precision: HuggingFace(exact, bf16=precision == "bf16") for precision in own}
    for precision, arm in own.items():
        check_losses(arm, peers[precision], range(2))
    draws = [exact.draw(number) for number in range(steps)]
    took: dict[tuple[str, str], list[float]] = {}
    for turn in range(3):  # the first is not counted
        for precision in own:
            theirs = trainer_steps(peers[precision].model, task, draws, precision == "bf16", folder)
            ours = [seconds(partial(own[precision].step, k), wait) for k in range(steps)][1:]
            if turn:
                took.setdefault(("ours", precision), []).extend(ours)
                took.setdefault(("hf", precision), []).extend(theirs)
    for mine, peer, goal in in_each_precision("≥ 2.5", "≥ 4"):
        ours, theirs = took["ours", mine], took["hf", peer]
        what = f"{task}, batch {size}, {mine}, against HF Trainer in {peer}"
        yield row(what, in_ms(ours), in_ms(theirs), ratios(ours, theirs), goal, "ms")


def in_each_precision(fp32: str, bf16: str) -> list[tuple[str, str, str]]:
    """Return (our precision, the peer's, goal)."""
    return [("fp32", "fp32", fp32), *([("bf16", "fp32", bf16), ("bf16", "bf16", "")] if BF16 else [])]


class _Loss(nn.Module):
    """plain.py's model as Trainer wants it."""

    def __init__(self, model: MultitaskBert, task: str) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, ids: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": self.model.loss(self.task, self.model.embed(ids, mask), labels)}


class _InOrder(Trainer):
    """Trainer that takes batches in the order given."""

    def _get_train_sampler(self, *args: Any) -> Any:
        items: Any = self.train_dataset
        return torch.utils.data.SequentialSampler(items)


class _Clock(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        wait()
        self.ends.append(time.perf_counter())


def trainer_steps(
    model: MultitaskBert, task: str, draws: list[Draw], bf16: bool, folder: Path
) -> list[float]:
    """Seconds of each step of Trainer after the first, data loading included."""
    arguments = TrainingArguments(
        str(folder / "trainer"),
        per_device_train_batch_size=1,  # an element of the data set is a whole batch here
        max_steps=len(draws),
        learning_rate=2e-5,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        bf16=bf16,
        use_cpu=DEVICE.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    clock = _Clock()

    def collate(found: list[Draw]) -> dict[str, Tensor]:
        sentences, labels = found[0][task]
        ids, mask = pad(sentences)
        return {"ids": ids, "mask": mask, "labels": labels.cpu()}

    trainer = _InOrder(
        model=_Loss(model, task),
        args=arguments,
        train_dataset=draws,
        data_collator=collate,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return np.diff(clock.ends).tolist()


def evaluation(folder: Path, rounds: int) -> Iterator[Row]:
    """Encode the sentences of a dev split."""
    own = {precision: Ours(folder, tasks=["sentiment"], precision=precision) for precision in PRECISIONS}
    peers = {precision: HuggingFace(own["fp32"], bf16=precision == "bf16") for precision in own}
    first = own["fp32"].training.tokens.tasks["sentiment"]["dev"].first
    tokens, lengths = first.take(range(len(first)))
    sentences = [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]

    def theirs(arm: HuggingFace) -> Tensor:
        arm.model.eval()
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=arm.bf16):
            found = [
                arm.model.embed(*pad(sentences[at : at + 64], DEVICE)) for at in range(0, len(sentences), 64)
            ]
        return torch.cat(found)

    def ours(arm: Ours) -> Tensor:
        return arm.training.embedder.whole("sentiment", "dev", lambda: None)[0]

    took: dict[str, list[float]] = {}
    for turn in range(max(3, rounds // 3) + 1):
        for precision in own:
            for name, act in (
                (f"ours {precision}", partial(ours, own[precision])),
                (f"hf {precision}", partial(theirs, peers[precision])),
            ):
                found = seconds(act, wait)
                if turn:  # the first is not counted
                    took.setdefault(name, []).append(found)
    assert torch.allclose(ours(own["fp32"]), theirs(peers["fp32"]), atol=1e-4)
    for mine, peer, goal in in_each_precision("≥ 3.5", "≥ 5"):
        a, b = took[f"ours {mine}"], took[f"hf {peer}"]
        what = f"evaluation, {len(sentences)} sentences, {mine}, against HF at batch 64 in {peer}"
        yield row(what, in_ms(a), in_ms(b), ratios(a, b), goal, "ms")


def frozen(folder: Path, rounds: int) -> Row:
    """A step on a frozen encoder: features from the cache, against computing them."""
    ours = Ours(folder, batch_size=sizes(2, 32, 2), freeze_encoder=True)
    peer = HuggingFace(ours)
    heads = [p for head in peer.model.heads.values() for p in head.parameters()]
    optimizer = torch.optim.AdamW(heads, lr=1e-3, fused=True)
    peer.model.eval()
    for task, batch in ours.draw(0).items():
        assert abs(peer.loss(task, *batch).item() - ours.losses(0)[task]) < 1e-4, task
    peer.model.train()
    # As ours: a frozen encoder draws no dropout.
    peer.model.bert.train(False)

    def theirs(draw: Draw) -> None:
        losses = []
        for task, (sentences, labels) in draw.items():
            with torch.no_grad():
                embedded = peer.model.embed(*pad(sentences, DEVICE))
            losses.append(peer.model.loss(task, embedded, labels))
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    ours.step(0)  # fills the cache
    took = []
    for number in range(rounds):
        draw = ours.draw(number)
        ours.step(number)
        theirs(draw)
        took.append((seconds(partial(ours.step, number), wait), seconds(partial(theirs, draw), wait)))
    a, b = [a for a, _ in took], [b for _, b in took]
    what = "frozen encoder, step 2/32/2 from the cache, against computing the embeddings with HF"
    return row(what, in_ms(a), in_ms(b), ratios(a, b), "≥ 100", "ms")


def in_ms(found: list[float]) -> list[float]:
    return [value * 1000 for value in found]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--only", default="", help="joint, single, evaluation or frozen")
    args = options.parse_args()
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    print(HEADER)
    for found in rows(args.rounds, args.only):
        print(found, flush=True)


if __name__ == "__main__":
    main()
