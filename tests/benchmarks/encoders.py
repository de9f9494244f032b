"""Encoders of many families beside transformers: how fast, how exact, whether trials resume and saved models load.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/encoders.py [--rounds 9] [--only roberta]

With `--rounds 0` nothing is timed.

Random weights of MiniLM's shape. A step is forward and backward, in fp32 with dropout, of 32 pairs of Quora's text (as MiniLM's
tokenizer cuts it, for all families). The peer is transformers' model with dynamic padding. For the differences dropout is off: of
embeddings the largest, of a gradient the norm as a share of the larger of its own norm and a thousandth of all gradients'.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import ratios, seconds
from torch import Tensor, nn
from training import settings
from transformers import AutoModel

from ablate.contract import Stopped
from ablate.trainer import train
from ablate.trainer.encoders.loading import wrap
from ablate.trainer.encoders.packed import PackedEncoder
from ablate.trainer.encoders.padded import PaddedEncoder, Pooling
from ablate.trainer.training.token_cache import tokens_of

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_encoders import POSITIONS, Shape, build, save_encoder
from trainer_context import Notebook, small

HEADER = (
    "| family | path | speed-up, quartiles | embeddings differ | gradients differ | resumes exactly | saved model loads |\n"
    "| --- | --- | ---: | ---: | ---: | --- | --- |"
)
MINILM = Shape(30522, positions=128, hidden=384, layers=6, heads=12, inner=1536, window=128)
PAIRS = 32
FAMILIES: dict[str, Pooling] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "data2vec-text", "electra"), "cls"),
    **dict.fromkeys(("distilbert", "modernbert", "albert", "deberta-v2", "mpnet"), "cls"),
    **{"xlnet": "mean", "gpt2": "last"},
}

Step = tuple[Tensor, np.ndarray]  # tokens end to end, lengths


def line(kind: str, pooling: Pooling, steps: list[Step]) -> str:
    """Return the row of a family."""
    torch.manual_seed(0)
    model = build(kind, MINILM)
    embeddings, gradients = differences(model, pooling, *steps[0])
    path = "packed" if isinstance(encoder_of(model), PackedEncoder) else "padded"
    speed = speed_up(build(kind, MINILM, dropout=0.1), pooling, steps) if len(steps) > 1 else ""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        resumes, loads = trial(kind, pooling, Path(name))
    cells = (kind, path, speed, f"{embeddings:.1e}", f"{gradients:.1e}", "yes" if resumes else "no")
    return "| " + " | ".join((*cells, "yes" if loads else "no")) + " |"


def encoder_of(model: nn.Module) -> PackedEncoder | PaddedEncoder:
    return wrap(model, torch.device("cpu")).module


def ours(module: nn.Module, pooling: Pooling, tokens: Tensor, lengths: np.ndarray) -> Tensor:
    embedded: Tensor = module(tokens, lengths, pooling)
    return embedded


def theirs(model: nn.Module, pooling: Pooling, tokens: Tensor, lengths: np.ndarray) -> Tensor:
    """What a plain script does: pad to the longest sentence of the batch."""
    sentences = torch.split(tokens, lengths.tolist())
    ids = nn.utils.rnn.pad_sequence(list(sentences), batch_first=True)
    counts = torch.from_numpy(lengths)
    mask = torch.arange(ids.shape[1]) < counts[:, None]
    hidden: Tensor = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    if pooling == "mean":
        return (hidden * mask[..., None]).sum(1) / counts[:, None]
    return hidden[range(len(counts)), 0 if pooling == "cls" else counts.long() - 1]


def differences(
    model: nn.Module, pooling: Pooling, tokens: Tensor, lengths: np.ndarray
) -> tuple[float, float]:
    """Return how far embeddings and gradients are from transformers'."""
    found = []
    for embed in (partial(theirs, model), partial(ours, encoder_of(model))):
        model.zero_grad()
        embedded = embed(pooling, tokens, lengths)
        direction = torch.linspace(-1, 1, embedded.numel()).view_as(embedded)
        (embedded * direction).sum().backward()  # type: ignore[no-untyped-call]
        found.append((embedded.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    (expected, exact), (embedded, gradients) = found
    whole = torch.cat([gradient.flatten() for gradient in exact]).norm()
    pairs = zip(gradients, exact, strict=True)
    apart = max(float((a - b).norm() / max(b.norm(), 1e-3 * whole)) for a, b in pairs)
    return float((embedded - expected).abs().max()), apart


def speed_up(model: nn.Module, pooling: Pooling, steps: list[Step]) -> str:
    """Return the median and quartiles of the rounds' ratios. Each batch is run once before it is timed."""
    module = encoder_of(model)

    def step(embed: Callable[[Tensor, np.ndarray], Tensor], batch: Step) -> None:
        model.zero_grad()
        embed(*batch).sum().backward()  # type: ignore[no-untyped-call]

    arms = (partial(ours, module, pooling), partial(theirs, model, pooling))
    times: tuple[list[float], list[float]] = ([], [])
    for batch in steps:
        for arm, taken in zip(arms, times, strict=True):
            step(arm, batch)
            taken.append(seconds(partial(step, arm, batch)))
    low, middle, high = np.quantile(ratios(*times), (0.25, 0.5, 0.75))
    return f"{middle:.2f}, {low:.2f} – {high:.2f}"


def trial(kind: str, pooling: Pooling, folder: Path) -> tuple[bool, bool]:
    """Return whether a small trial that was stopped ends as if undisturbed, and whether transformers loads its model alike."""
    encoder = save_encoder(folder / "encoder", kind)
    changed = {"encoder": str(encoder), "pooling": pooling, "max_length": POSITIONS, "max_steps": 4}
    chosen = small(**changed, surgery="pcgrad", keep="model")
    whole, stopped = Notebook(folder / "whole"), Notebook(folder / "stopped", stop_after=2)
    metrics = train(chosen, whole)
    try:
        train(chosen, stopped)
    except Stopped:
        resumed = Notebook(folder / "resumed", state=stopped.state)
    same = train(chosen, resumed) == metrics and resumed.weights == whole.weights
    saved = AutoModel.from_pretrained(whole.workdir / "model").train(False)
    lengths = np.array([5, 9, 3], dtype=np.int32)
    batch = (pooling, torch.randint(5, 50, (17,)), lengths)
    with torch.no_grad():
        loads = torch.allclose(theirs(saved, *batch), ours(encoder_of(saved), *batch), atol=1e-5)
    return same, loads


def batches(count: int) -> Iterator[Step]:
    """Yield batches of pairs."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        split = tokens_of(settings(tasks=["paraphrase"]), Path(name)).tasks["paraphrase"]["train"]
        for number in range(count):
            rows = np.arange(number * PAIRS, (number + 1) * PAIRS)
            columns = [column.take(rows) for column in split.columns]
            tokens, lengths = (np.concatenate(arrays) for arrays in zip(*columns, strict=True))
            yield torch.from_numpy(tokens), lengths


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--only", default="")
    args = options.parse_args()
    steps = list(batches(max(1, args.rounds)))
    print(HEADER, flush=True)
    for kind, pooling in FAMILIES.items():
        if args.only in kind:
            print(line(kind, pooling, steps), flush=True)
