"""300 steps of joint training by `ablate.trainer` and by plain Hugging Face code, from the same weights on the same items
in the same order, dropout off: the losses must coincide.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/curves.py [--steps 300] [--picture docs/loss_curves.png]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from measure import HEADER, Row
from torch import Tensor, nn
from training import DEVICE, Draw, HuggingFace, Ours, sizes

Curves = dict[str, list[tuple[float, float]]]  # task -> our loss and theirs, step by step


def curves(steps: int) -> Curves:
    """Train both; joint, 8/8/8, AdamW, gradients clipped at 1."""
    found: Curves = {}
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        batch = sizes(8, 8, 8)
        lr = {"encoder": 2e-5, "heads": 2e-5}
        ours = Ours(Path(name) / "work", batch_size=batch, dropout=0.0, lr=lr, clip=1.0)
        peer = HuggingFace(ours)
        for module in peer.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        bert: Any = peer.model.bert
        bert.config.attention_probs_dropout_prob = 0.0
        for layer in bert.encoder.layer:
            layer.attention.self.dropout_prob = 0.0
        parameters = [p for group in peer.optimizer.param_groups for p in group["params"]]
        for number in range(steps):
            ours.step(number)
            theirs = _step(peer, ours.draw(number), parameters)
            for task, loss in theirs.items():
                mine = ours.training.window[f"train/{task}"][-1]
                found.setdefault(task, []).append((mine, loss.item()))
    return found


def _step(peer: HuggingFace, draw: Draw, parameters: list[Tensor]) -> dict[str, Tensor]:
    losses = {task: peer.loss(task, *batch) for task, batch in draw.items()}
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    peer.optimizer.step()
    peer.optimizer.zero_grad()
    return losses


def rows(steps: int, picture: Path | None) -> list[Row]:
    """Return how far the losses of each task come apart, and draw them."""
    found = curves(steps)
    if picture is not None:
        draw(found, picture)
    lines = []
    for task, pairs in found.items():
        apart = max(abs(a - b) for a, b in pairs)
        last, theirs = (sum(column) / 50 for column in zip(*pairs[-50:], strict=True))
        what = (
            f"{task}: mean loss of the last 50 of {steps} steps; largest difference of any step {apart:.1e}"
        )
        lines.append(Row(what, f"{last:.5f}", f"{theirs:.5f}", f"{last / theirs:.5f}", "", "coincide"))
    return lines


def draw(found: Curves, picture: Path) -> None:
    """One panel per task: our loss as a line, theirs as dots on it, and the difference below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        2, len(found), figsize=(7.2, 3.6), sharex=True, height_ratios=[3, 1], layout="constrained"
    )
    for (task, pairs), (top, bottom) in zip(found.items(), axes.T, strict=True):
        ours, theirs = (list(column) for column in zip(*pairs, strict=True))
        steps = range(1, len(pairs) + 1)
        top.plot(steps, ours, color="#0072B2", linewidth=1, label="ablate")
        top.plot(steps[::6], theirs[::6], ".", color="#D55E00", markersize=3, label="Hugging Face")
        top.set_title(task, fontsize=9)
        bottom.plot(steps, [a - b for a, b in pairs], color="black", linewidth=0.7)
        bottom.set_xlabel("step", fontsize=8)
        for axis in (top, bottom):
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("training loss", fontsize=8)
    axes[1, 0].set_ylabel("difference", fontsize=8)
    axes[0, 0].legend(fontsize=7, frameon=False)
    figure.savefig(picture, dpi=200)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--picture", type=Path)
    args = options.parse_args()
    print(f"device: {DEVICE}", HEADER, *rows(args.steps, args.picture), sep="\n")


if __name__ == "__main__":
    main()
