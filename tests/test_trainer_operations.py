"""How many operations a step sends to the device, and how often the host waits for a result: what a step costs on a fast GPU.

Both depend on layers, tasks and lengths, and not on widths, so that a narrow encoder is counted.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_encoders import POSITIONS, Shape, build, save_encoder
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from trainer_context import Notebook, small

from ablate.trainer.encoders import packed, packed_ops
from ablate.trainer.encoders.flat_parameters import ALL, Flat, Gradients
from ablate.trainer.encoders.packed import PackedEncoder
from ablate.trainer.encoders.packed_attention import Layout
from ablate.trainer.settings import Settings
from ablate.trainer.training.loop import Training

# They make no kernel: views, and new tensors without values.
NO_KERNEL = {
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "slice",
    "select",
    "split",
    "split_with_sizes",
    "detach",
    "alias",
}
NO_KERNEL |= {
    "expand",
    "unsqueeze",
    "squeeze",
    "empty",
    "empty_like",
    "new_empty",
    "as_strided",
    "permute",
    "unbind",
}
WAITS = {"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__"}


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what reaches the dispatcher and computes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name not in NO_KERNEL:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """Counts calls that need a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in WAITS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def encoder_pass(model: Any, device: str, owners: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the operations of a bf16 pass of an encoder, there and back, for 70 sentences of one or three owners.

    On "meta", tensors have shapes but no values, and everything is done as on a GPU.
    """
    monkeypatch.setattr(packed, "varlen_agrees", lambda of, size: of.type == "meta")
    bert = PackedEncoder(model.to(device))
    flat = Flat(bert, bert.words)
    flat.require_gradients(True)
    gradients, where = Gradients(flat, owners), torch.device(device)
    lengths = np.array([12, 11, *[9] * 64, 6, 8, 10, 12])
    words, tokens = (torch.arange(count, device=where) % 40 for count in (40, int(lengths.sum())))
    gradients.read_rows(words)
    counts = {"a": 2, "b": 64, "c": 4} if len(owners) == 3 else {owners[0]: 70}
    shares, operations = packed._shares(lengths, counts, gradients), Operations()
    with torch.no_grad(), operations:
        layout = Layout(lengths, bert.config.num_attention_heads, where)
        run = packed._Pass(bert, layout, shares, words, "cls", torch.bfloat16, keep=True)
        run.backward(torch.empty_like(run.forward(tokens)))
    return operations.counts.total()


def joint_step(folder: Path, layers: int, **changed: Any) -> tuple[Counter[str], Counter[str]]:
    """Return the operations and the waits of a joint step on batches of 2 / 32 / 2."""
    encoder = save_encoder(folder / f"{layers}", "bert", num_hidden_layers=layers)
    batches = {"sentiment": 2, "paraphrase": 32, "similarity": 2}
    data = {task: {"limit": {"train": 64, "dev": 8}} for task in batches}
    settings: Settings = small(
        encoder=str(encoder), data=data, batch_size=batches, max_length=POSITIONS, **changed
    )
    training = Training(settings, Notebook(folder))
    training._take_step()
    training.step = 1
    operations, waits = Operations(), Waits()
    with waits, operations:
        training._take_step()
    return operations.counts, waits.counts


# Counted before queries, keys and values shared a product, a layer's masks were made together, weights were copied in one call
# and a GPU had its own path: 1729, 1122, 2258 and 1507 with two groups of lengths, on both; each further group added about 100.
@pytest.mark.parametrize(
    ("changed", "most"),
    [
        ({"surgery": "pcgrad"}, 1419),
        ({}, 898),
        ({"surgery": "pcgrad", "precision": "bf16"}, 1666),
        ({"precision": "bf16"}, 1047),
    ],
)
def test_a_joint_step_of_twelve_layers_on_a_cpu(
    changed: dict[str, Any], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A processor without bf16 also copies what it multiplies to fp32.
    monkeypatch.setattr(packed_ops, "WIDENED", set())
    two, three = (joint_step(tmp_path, layers, **changed)[0] for layers in (2, 3))
    # One softmax for each group of lengths.
    assert three["softmax"] - two["softmax"] == 2
    assert two.total() + 10 * (three.total() - two.total()) <= most


@pytest.mark.parametrize(("surgery", "most"), [("pcgrad", 1000), ("none", 700)])
def test_a_joint_step_of_twelve_layers_in_bf16_on_a_gpu(
    surgery: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's part is counted on shapes alone; what is around it is the same on a CPU."""
    owners = ("a", "b", "c") if surgery != "none" else (ALL,)
    on_gpu = encoder_pass(build("bert", Shape(layers=12), dropout=0.1), "meta", owners, monkeypatch)
    on_cpu = encoder_pass(build("bert", Shape(layers=2), dropout=0.1), "cpu", owners, monkeypatch)
    whole = joint_step(tmp_path, 2, surgery=surgery, precision="bf16")[0].total()
    assert on_gpu + whole - on_cpu <= most


def test_without_surgery_the_host_waits_once(tmp_path: Path) -> None:
    """For losses and norm. The other call asks whether to clip, which happens on a CPU only."""
    assert joint_step(tmp_path, 2)[1] == {"tolist": 1, "__float__": 1}


@pytest.mark.parametrize(
    ("surgery", "waits"), [("pcgrad", 1), ("graddrop", 1), ("trimmed_mean", 1), ("excess_mtl", 2)]
)
def test_surgery_waits_once_more_for_the_gramian(surgery: str, waits: int, tmp_path: Path) -> None:
    """What it then asks of the Gramian is asked of the host's copy. ExcessMTL also waits for its risks."""
    assert joint_step(tmp_path, 2, surgery=surgery)[1]["cpu"] == waits
