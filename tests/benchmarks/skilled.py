"""Optimizer steps and evaluation of `ablate.trainer` beside what an engineer who knows the field would write.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/skilled.py [--rounds 9]

The peer is training.py's Hugging Face model (SDPA attention, fused AdamW) with less padding and no kept graphs: sentences go
through the encoder in buckets of similar length; each task has its own backward pass, into its own row of one gradient buffer;
PCGrad works on the Gramian of the rows (torchjd's weighting); evaluation is sorted by length. Each row compares equal precisions.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from measure import HEADER, Row, ratios, row, seconds
from plain import pad
from torch import Tensor, nn
from torchjd.aggregation import PCGradWeighting
from training import DEVICE, PRECISIONS, Draw, HuggingFace, Ours, check_losses, in_ms, sizes, wait


class Skilled(HuggingFace):
    """The same model and weights, trained with less waste."""

    def __init__(self, ours: Ours, precision: str, surgery: bool = False) -> None:
        super().__init__(ours, bf16=precision == "bf16", surgery=surgery)
        self.encoder = list(self.model.bert.parameters())
        self.rows = torch.zeros(len(ours.training.heads), sum(p.numel() for p in self.encoder), device=DEVICE)
        self.weighting = PCGradWeighting()
        self.clip = ours.training.settings.clip

    def embed(self, sentences: list[list[int]]) -> Tensor:
        """Embed sentences in buckets of similar length."""
        order = sorted(range(len(sentences)), key=lambda n: len(sentences[n]))
        count = max(1, min(4, len(order) // 8))
        size = -(-len(order) // count)
        found = []
        for at in range(0, len(order), size):
            bucket = [sentences[n] for n in order[at : at + size]]
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bf16):
                found.append(self.model.embed(*pad(bucket, DEVICE)))
        return torch.cat(found)[torch.tensor(order, device=DEVICE).argsort()]

    def loss(self, task: str, sentences: list[list[int]], labels: Tensor) -> Tensor:
        return self.model.loss(task, self.embed(sentences), labels)

    def step(self, draw: Draw) -> None:
        if self.surgery:
            self._descend_by_task(draw)
        else:
            losses = [self.loss(task, *batch) for task, batch in draw.items()]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        if self.clip:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _descend_by_task(self, draw: Draw) -> None:
        self.rows.zero_()
        for own, (task, batch) in zip(self.rows, draw.items(), strict=True):
            self._write_gradients_to(own)
            self.loss(task, *batch).backward()  # type: ignore[no-untyped-call]
        weights = self.weighting((self.rows @ self.rows.T).cpu().double()).to(self.rows)
        self._write_gradients_to(weights @ self.rows)

    def _write_gradients_to(self, buffer: Tensor) -> None:
        pieces = torch.split(buffer, [p.numel() for p in self.encoder])
        for parameter, piece in zip(self.encoder, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def evaluate(self, sentences: list[list[int]]) -> Tensor:
        """Embed all sentences, sorted by length, 64 at a time."""
        order = sorted(range(len(sentences)), key=lambda n: len(sentences[n]))
        self.model.eval()
        found = []
        with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bf16):
            for at in range(0, len(order), 64):
                found.append(self.model.embed(*pad([sentences[n] for n in order[at : at + 64]], DEVICE)))
        self.model.train()
        return torch.cat(found)[torch.tensor(order, device=DEVICE).argsort()]


def rows(rounds: int) -> Iterator[Row]:
    """Measure, and yield each row as it is known."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name) / "work"
        for batch in (sizes(2, 32, 2), sizes(8, 8, 8)):
            what = "joint step " + "/".join(map(str, batch.values()))
            yield from steps(folder, f"{what}, PCGrad", "≥ 4", rounds, batch_size=batch, surgery="pcgrad")
            yield from steps(folder, f"{what}, no surgery", "≥ 3.5", rounds, batch_size=batch)
        for task, size, goal in (
            ("sentiment", 2, "≥ 2"),
            ("sentiment", 32, "≥ 2.5"),
            ("paraphrase", 2, "≥ 2"),
            ("paraphrase", 32, "≥ 2.5"),
        ):
            changed = {"tasks": [task], "batch_size": {task: size}, "clip": 1.0}
            yield from steps(folder, f"{task}, batch {size}", goal, 3 * rounds, **changed)
        yield from evaluation(folder, rounds)


def steps(folder: Path, what: str, goal: str, rounds: int, **changed: Any) -> Iterator[Row]:
    """A step of both, in turns, in each precision."""
    for precision in PRECISIONS:
        ours = Ours(folder, precision=precision, **changed)
        peer = Skilled(ours, precision, surgery="surgery" in changed)
        check_losses(ours, peer, range(2))
        draws = [ours.draw(number) for number in range(rounds)]
        turns = [(partial(ours.step, k), partial(peer.step, draw)) for k, draw in enumerate(draws)]
        yield compared(f"{what}, {precision}", goal, turns)


def evaluation(folder: Path, rounds: int) -> Iterator[Row]:
    """Encode the sentences of a dev split."""
    for precision in PRECISIONS:
        ours = Ours(folder, tasks=["sentiment"], precision=precision)
        peer = Skilled(ours, precision)
        first = ours.training.tokens.tasks["sentiment"]["dev"].first
        sentences = [first.take([n])[0].tolist() for n in range(len(first))]
        whole = partial(ours.training.embedder.whole, "sentiment", "dev", lambda: None)
        assert torch.allclose(whole()[0], peer.evaluate(sentences), atol=1e-4 if precision == "fp32" else 0.2)
        turns = [(whole, partial(peer.evaluate, sentences))] * max(3, rounds // 3)
        yield compared(f"evaluation, {len(sentences)} sentences, {precision}", "≥ 2.5", turns)


def compared(what: str, goal: str, turns: Sequence[tuple[Callable[[], object], Callable[[], object]]]) -> Row:
    """Time turns of ours and of the peer; each is run once before."""
    took = []
    for ours, peer in turns:
        ours()
        peer()
        took.append((seconds(ours, wait), seconds(peer, wait)))
    a, b = [own for own, _ in took], [theirs for _, theirs in took]
    return row(what, in_ms(a), in_ms(b), ratios(a, b), goal, "ms")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=9)
    args = options.parse_args()
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    print(HEADER)
    for found in rows(args.rounds):
        print(found, flush=True)


if __name__ == "__main__":
    main()
