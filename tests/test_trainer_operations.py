"""How many operations a step sends to the device, and how often the host waits for a result: what a step costs on a fast GPU.

Both depend on layers, tasks and lengths, and not on widths, so that a narrow encoder is counted.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small_encoders import POSITIONS, save_encoder
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from trainer_context import Notebook, small

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


def of_twelve_layers(folder: Path, **changed: Any) -> int:
    """Return the operations of a step of BERT-base: each layer more adds as many."""
    two, three = (joint_step(folder, layers, **changed)[0] for layers in (2, 3))
    # One softmax for each group of lengths.
    assert three["softmax"] - two["softmax"] == 2
    return two.total() + 10 * (three.total() - two.total())


@pytest.mark.parametrize(
    ("changed", "most"),
    [
        ({"surgery": "pcgrad"}, 1729),
        ({}, 1122),
        ({"surgery": "pcgrad", "precision": "bf16"}, 2258),
        ({"precision": "bf16"}, 1507),
    ],
)
def test_a_joint_step_sends_few_operations(changed: dict[str, Any], most: int, tmp_path: Path) -> None:
    assert of_twelve_layers(tmp_path, **changed) <= most


def test_without_surgery_the_host_waits_for_the_losses_and_the_norm(tmp_path: Path) -> None:
    assert joint_step(tmp_path, 2)[1] == {"tolist": 1, "__float__": 1}


def test_surgery_waits_once_more_for_the_gramian(tmp_path: Path) -> None:
    """What it then asks of the Gramian is asked of the host's copy."""
    assert joint_step(tmp_path, 2, surgery="pcgrad")[1]["cpu"] == 1
