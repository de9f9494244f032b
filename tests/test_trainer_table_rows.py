"""Adam on the rows that had a gradient moves them, to the bit, as Adam on the whole table does."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from trainer_context import small

from ablate.trainer.encoders.flat_parameters import Flat
from ablate.trainer.training.optimizing import Optimizer
from ablate.trainer.training.table_rows import TableRows

WORDS, HIDDEN = 40, 16
# New words, old ones, none new, and in the end more than half of all.
STEPS = [
    [3, 7],
    [3],
    [7, 9, 30],
    [3, 9],
    list(range(10, 18)),
    list(range(0, 40, 3)),
    list(range(20, 40)),
    [1],
]


class Training:
    """Steps of Adam on a table with gradients that are functions of the step."""

    def __init__(self, whole: bool, monkeypatch: pytest.MonkeyPatch, l2: float = 0.0) -> None:
        if whole:
            init = TableRows.__init__
            monkeypatch.setattr(TableRows, "__init__", lambda self, table, whole: init(self, table, True))
        torch.manual_seed(1)
        self.module = nn.Embedding(WORDS, HIDDEN)
        self.flat = Flat(self.module, self.module.weight)
        settings = small(l2=l2, clip=0.5, lr={"encoder": 0.1})
        self.optimizer = Optimizer({"encoder": self.flat}, settings, len(STEPS))
        monkeypatch.undo()

    def take(self, steps: Sequence[int]) -> None:
        for step in steps:
            gradients = self.optimizer.gradients["encoder"]
            gradients.read_rows(torch.tensor(STEPS[step]))
            torch.manual_seed(step)
            gradients.places()[self.module.weight].normal_()
            self.optimizer.step(step, ["encoder"])

    @property
    def leaf(self) -> Tensor:
        return self.optimizer._tables["encoder"].leaf


def test_no_bit_is_another_than_on_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, whole = Training(False, monkeypatch), Training(True, monkeypatch)
    start = whole.module.weight.detach().clone()
    for step in range(len(STEPS)):
        rows.take([step])
        whole.take([step])
        assert torch.equal(rows.module.weight, whole.module.weight)
    touched = sorted({word for words in STEPS for word in words})
    moved = (start != whole.module.weight).any(dim=1).nonzero().flatten()
    assert moved.tolist() == touched


def test_the_leaf_grows_until_it_is_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    training, seen = Training(False, monkeypatch), []
    for step in range(len(STEPS)):
        training.take([step])
        seen.append(len(training.leaf))
    assert seen == sorted(seen)
    assert seen[0] <= WORDS // 2
    assert training.leaf.data_ptr() == training.module.weight.data_ptr()


@pytest.mark.parametrize("after", range(len(STEPS)))
def test_resuming_anywhere_changes_no_bit(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Training(False, monkeypatch), Training(False, monkeypatch)
    one.take(range(after))
    state = [{name: value.clone() for name, value in leaf.items()} for leaf in one.optimizer.state()]
    other.flat.values.copy_(one.flat.values)
    other.optimizer.restore(state)
    for training in (one, other):
        training.take(range(after, len(STEPS)))
    assert torch.equal(one.module.weight, other.module.weight)


def test_with_weight_decay_all_rows_move(monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(False, monkeypatch, l2=0.1)
    start = training.module.weight.detach().clone()
    training.take([0])
    assert (start != training.module.weight).any(dim=1).all()
    assert len(training.leaf) == WORDS
