"""Optimizer steps and evaluation: our packed encoder beside `transformers`, with and without gradient surgery.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/step.py [--rounds 9] [--threads 2] [--cpu-time] [--only joint]

Without ABLATE_TEST_ASSETS: random weights of MiniLM's shape and random tokens, with lengths like those of the real text.

Every arm takes the same batches, and arms take turns within each round, so that a ratio compares neighbours in time;
medians of ratios are printed with their quartiles. Each batch is run once before it is timed: oneDNN compiles a kernel
for each new number of tokens, which a long training has soon seen. Before that, all arms must have equal losses.

Arms
    hf             BertModel (SDPA, padded to the batch's longest), sum of the tasks' losses, fused AdamW
    hf + pcgrad    the same with PCGrad as published (Yu et al. 2020) and as github.com/WeiChengTseng/Pytorch-PCGrad
                   has it: a backward pass per task through a kept graph, projection of whole gradients
    ours           PackedBert, flat gradients, surgery on the Gramian, fused AdamW: the parts `ablate.trainer` runs
"""

import argparse
import copy
import csv
import lzma
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ablate.trainer.flat import Flat
from ablate.trainer.heads import build_head
from ablate.trainer.optimizing import Optimizer
from ablate.trainer.packed import PackedBert
from ablate.trainer.settings import Settings
from ablate.trainer.surgery import Surgeon

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
FILES = {"sentiment": "ids-sst-train", "paraphrase": "quora-train-recovered", "similarity": "sts-train"}
FIELDS = {
    "sentiment": ("sentence",),
    "paraphrase": ("sentence1", "sentence2"),
    "similarity": ("sentence1", "sentence2"),
}
LABELS = {"sentiment": "sentiment", "paraphrase": "is_duplicate", "similarity": "similarity"}
# mean and spread of log(length), fitted to the real text
LENGTHS = {"sentiment": (3.1, 0.45), "paraphrase": (2.6, 0.35), "similarity": (2.6, 0.4)}
SETTINGS = Settings(
    similarity_head="siamese", paraphrase_head="difference", surgery="pcgrad", clip=0.0, schedule="constant"
)

Item = tuple[list[list[int]], float]  # one sentence or two, and the label


@dataclass(frozen=True)
class Batch:
    """Items of one task: first sentences, then second ones."""

    task: str
    sentences: list[list[int]]
    labels: Tensor

    def padded(self) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, [sentences, longest]."""
        longest = max(map(len, self.sentences))
        ids = torch.zeros(len(self.sentences), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sentence in enumerate(self.sentences):
            ids[row, : len(sentence)] = torch.tensor(sentence)
            mask[row, : len(sentence)] = 1
        return ids, mask

    def packed(self) -> tuple[Tensor, list[int]]:
        """Tokens [total], and lengths."""
        return torch.tensor([token for s in self.sentences for token in s]), [len(s) for s in self.sentences]


# Arms -------------------------------------------------------------------------------------------------------


class Arm:
    """An encoder and heads that can take a step on batches of one or several tasks."""

    def __init__(self, model: BertModel, heads: dict[str, nn.Module], bf16: bool) -> None:
        self.model, self.heads, self.bf16 = copy.deepcopy(model), copy.deepcopy(heads), bf16

    def embed(self, batch: Batch) -> Tensor:
        """[sentences, hidden]."""
        ids, mask = batch.padded()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            hidden = self.model(ids, attention_mask=mask).last_hidden_state[:, 0]
        return hidden.float()

    def loss(self, batch: Batch) -> Tensor:
        """The task's mean loss."""
        embedded, n = self.embed(batch), len(batch.labels)
        second = embedded[n:] if len(embedded) > n else None
        head = self.heads[batch.task]
        return head.loss(head(embedded[:n], second), batch.labels)

    def evaluate(self, batch: Batch) -> Tensor:
        """Embeddings without dropout and graph."""
        self.train(False)
        with torch.no_grad():
            embedded = self.embed(batch)
        self.train(True)
        return embedded

    def train(self, mode: bool) -> None:
        for module in (self.model, *self.heads.values()):
            module.train(mode)


class HuggingFace(Arm):
    """What a careful user writes."""

    def __init__(
        self, model: BertModel, heads: dict[str, nn.Module], bf16: bool, surgery: bool = False
    ) -> None:
        super().__init__(model, heads, bf16)
        parameters = [p for module in (self.model, *self.heads.values()) for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.0, fused=True)
        self.surgery = surgery

    def step(self, batches: list[Batch]) -> None:
        losses = [self.loss(batch) for batch in batches]
        if self.surgery:
            published_pcgrad(self.optimizer, losses)
        else:
            torch.stack(losses).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours(Arm):
    """The trainer's own parts, in the order of its loop."""

    def __init__(
        self,
        model: BertModel,
        heads: dict[str, nn.Module],
        bf16: bool,
        tasks: tuple[str, ...],
        surgery: bool = False,
    ) -> None:
        super().__init__(model, heads, bf16)
        self.packed = PackedBert(self.model)
        self.flats = {"encoder": Flat(self.packed)} | {task: Flat(self.heads[task]) for task in tasks}
        self.optimizer = Optimizer(self.flats, SETTINGS, total_steps=1_000_000)
        for name, flat in self.flats.items():
            flat.add_gradients_to(flat.views(self.optimizer.gradients[name]))
        self.tasks, self.surgeon = tasks, None
        if surgery:
            self.surgeon = Surgeon("pcgrad", tasks, seed=0)
            self.gradients = torch.zeros(len(tasks), len(self.flats["encoder"].values))
            self.places = [self.flats["encoder"].views(gradient) for gradient in self.gradients]

    def embed(self, batch: Batch) -> Tensor:
        tokens, lengths = batch.packed()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.packed(tokens, lengths, "cls")

    def step(self, batches: list[Batch]) -> None:
        for batch in batches:
            if self.surgeon is not None:
                self.flats["encoder"].add_gradients_to(self.places[self.tasks.index(batch.task)])
            self.loss(batch).backward()
        if self.surgeon is not None:
            combined, _ = self.surgeon.combine(self.gradients)
            self.optimizer.gradients["encoder"].copy_(combined)
            self.gradients.zero_()
        self.optimizer.step(0, set(self.flats))

    def train(self, mode: bool) -> None:
        super().train(mode)
        self.packed.train(mode)


def published_pcgrad(optimizer: torch.optim.Optimizer, losses: list[Tensor]) -> None:
    """Set `.grad` to the sum of projected gradients, the way Pytorch-PCGrad's `pc_backward` works."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients, present = [], []
    for loss in losses:
        optimizer.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        found = [(p.grad, 1.0) if p.grad is not None else (torch.zeros_like(p), 0.0) for p in parameters]
        gradients.append(torch.cat([gradient.clone().flatten() for gradient, _ in found]))
        present.append(torch.cat([torch.full_like(gradient, has).flatten() for gradient, has in found]))
    shared = torch.stack(present).prod(0).bool()
    projected = copy.deepcopy(gradients)
    for own in projected:
        random.shuffle(gradients)
        for other in gradients:
            product = torch.dot(own, other)
            if product < 0:
                own -= product * other / other.norm() ** 2
    merged = torch.zeros_like(gradients[0])
    merged[shared] = torch.stack([gradient[shared] for gradient in projected]).sum(0)
    merged[~shared] = torch.stack([gradient[~shared] for gradient in projected]).sum(0)
    start = 0
    for parameter in parameters:
        parameter.grad = merged[start : start + parameter.numel()].view_as(parameter).clone()
        start += parameter.numel()


# Data -------------------------------------------------------------------------------------------------------


def read_items(assets: Path, task: str, rows: int) -> list[Item]:
    """The first rows of a task of the course's data, tokenised."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(assets / "weights/minilm-l6-h384/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    with lzma.open(assets / f"data/cs224n/{FILES[task]}.csv.xz", "rt", newline="", encoding="utf-8") as file:
        lines = [row for row, _ in zip(csv.DictReader(file, delimiter="\t"), range(rows), strict=False)]
    columns = [
        [e.ids for e in tokenizer.encode_batch([row[field] for row in lines])] for field in FIELDS[task]
    ]
    return [
        (list(sentences), float(row[LABELS[task]])) for *sentences, row in zip(*columns, lines, strict=True)
    ]


def draw_items(task: str, rows: int) -> list[Item]:
    """Random tokens, with lengths like those of the task's text."""
    draw = np.random.default_rng(0)
    mean, spread = LENGTHS[task]
    sizes = np.clip(np.exp(draw.normal(mean, spread, (rows, len(FIELDS[task])))), 4, 128).astype(int)
    return [
        ([draw.integers(1000, 30_000, size).tolist() for size in row], float(draw.integers(2)))
        for row in sizes
    ]


def batches_of(task: str, items: list[Item], size: int, seed: int) -> Iterator[Batch]:
    """Batches of random items, for ever."""
    draw = random.Random(seed)
    while True:
        chosen = draw.sample(items, size)
        sentences = [
            sentence for column in zip(*(item[0] for item in chosen), strict=True) for sentence in column
        ]
        yield Batch(task, sentences, torch.tensor([label for _, label in chosen]))


# Measuring --------------------------------------------------------------------------------------------------


def measure(
    arms: dict[str, Callable[[list[Batch]], object]], draws: list[list[Batch]], clock: Callable[[], float]
) -> None:
    """Time every arm on every draw, in turn, and print medians and ratios to the first arm."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for draw in draws:
        for step in arms.values():
            step(draw)
        for name, step in arms.items():
            start = clock()
            step(draw)
            seconds[name].append(clock() - start)
    first, *_ = arms
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(seconds[first], values, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        milliseconds = statistics.median(values) * 1000
        print(f"| {name:<24} | {milliseconds:8.1f} | {middle:5.2f} | {low:5.2f} – {high:5.2f} |", flush=True)


def table(title: str, draws: list[list[Batch]]) -> None:
    tokens = [sum(len(s) for batch in draw for s in batch.sentences) for draw in draws]
    padded = [sum(batch.padded()[0].numel() for batch in draw) for draw in draws]
    print(
        f"\n{title}: {statistics.mean(tokens):.0f} tokens a step, {statistics.mean(padded):.0f} when padded"
    )
    print(f"| {'arm':<24} | {'ms':>8} | speed | {'quartiles':>13} |\n| --- | ---: | ---: | ---: |")


def check_losses(arms: list[Arm], batches: list[Batch]) -> None:
    """Refuse to time arms whose losses differ with dropout off."""
    for batch in batches:
        found = []
        for arm in arms:
            arm.train(False)
            with torch.no_grad():
                found.append(float(arm.loss(batch)))
            arm.train(True)
        spread = 0.05 if any(arm.bf16 for arm in arms) else 1e-4
        assert max(found) - min(found) < spread, f"{batch.task}: losses differ: {found}"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument(
        "--cpu-time", action="store_true", help="CPU time of one thread: for a machine in use by others"
    )
    options.add_argument("--only", default="", help="part of a table's name: joint, single, evaluation")
    args = options.parse_args()
    torch.set_num_threads(1 if args.cpu_time else args.threads)
    clock = time.thread_time if args.cpu_time else time.perf_counter
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)

    assets = os.environ.get("ABLATE_TEST_ASSETS")
    if assets:
        model = BertModel.from_pretrained(
            f"{assets}/weights/minilm-l6-h384", dtype=torch.float32, add_pooling_layer=False
        )
        items = {task: read_items(Path(assets), task, 2000) for task in FILES}
    else:
        model = BertModel(BertConfig(**MINILM), add_pooling_layer=False)
        items = {task: draw_items(task, 2000) for task in FILES}
    model.train()
    heads = {task: build_head(task, model.config.hidden_size, SETTINGS) for task in FILES}
    print(
        f"{processor()}, {torch.get_num_threads()} threads, {'CPU time of one thread' if args.cpu_time else 'wall time'}"
    )
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, python {platform.python_version()}"
    )
    print(
        f"MiniLM-L6-H384 shapes, {'CS224N text' if assets else 'random tokens'}, dropout 0.1, cls pooling, {args.rounds} rounds"
    )

    def draws(sizes: dict[str, int]) -> list[list[Batch]]:
        streams = [batches_of(task, items[task], size, seed=size) for task, size in sizes.items()]
        return [[next(stream) for stream in streams] for _ in range(args.rounds)]

    tasks = tuple(FILES)
    for sizes in ((2, 32, 2), (8, 8, 8)):
        name = f"joint step {'/'.join(map(str, sizes))}"
        if args.only in name:
            found = draws(dict(zip(tasks, sizes, strict=True)))
            table(name, found)
            arms = {
                "hf + pcgrad": HuggingFace(model, heads, False, surgery=True),
                "hf": HuggingFace(model, heads, False),
                "hf bf16": HuggingFace(model, heads, True),
                "ours + pcgrad": Ours(model, heads, False, tasks, surgery=True),
                "ours": Ours(model, heads, False, tasks),
                "ours + pcgrad bf16": Ours(model, heads, True, tasks, surgery=True),
                "ours bf16": Ours(model, heads, True, tasks),
            }
            check_losses(list(arms.values()), found[0])
            measure({name: arm.step for name, arm in arms.items()}, found, clock)
    for task, size in (("sentiment", 2), ("sentiment", 32), ("paraphrase", 2), ("paraphrase", 32)):
        name = f"single task step, {task}, batch {size}"
        if args.only in name:
            found = draws({task: size})
            table(name, found)
            singles = pair_of_arms(model, heads, task)
            check_losses(list(singles.values()), found[0])
            measure({name: arm.step for name, arm in singles.items()}, found, clock)
    if args.only in "evaluation":
        found = draws({"sentiment": 64})
        table("evaluation, sentiment, 64 sentences in random order", found)
        singles = pair_of_arms(model, heads, "sentiment")
        measure(
            {name: lambda draw, arm=arm: arm.evaluate(draw[0]) for name, arm in singles.items()}, found, clock
        )


def pair_of_arms(model: BertModel, heads: dict[str, nn.Module], task: str) -> dict[str, HuggingFace | Ours]:
    return {
        "hf": HuggingFace(model, {task: heads[task]}, False),
        "hf bf16": HuggingFace(model, {task: heads[task]}, True),
        "ours": Ours(model, heads, False, (task,)),
        "ours bf16": Ours(model, heads, True, (task,)),
    }


def processor() -> str:
    """Its name and number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    return f"{' / '.join(names) or platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
