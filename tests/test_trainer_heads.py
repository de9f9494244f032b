from typing import Any

import pytest
import torch

from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import TaskHead, build_head
from ablate.trainer.tasks.registry import TASKS

U, V = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))


def head(task: str, **settings: Any) -> TaskHead:
    torch.manual_seed(1)
    chosen = Settings(**{"dense_size": 8, "dropout": 0.0, **settings})
    of_task = TASKS[task]
    return build_head(of_task, chosen.head_of(of_task), 16, chosen.dense_size, chosen.dropout)


def weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("task", "settings", "inputs", "outputs"),
    [
        ("sentiment", {}, 16, 5),
        ("paraphrase", {}, 32, 1),
        ("paraphrase", {"paraphrase_head": "difference"}, 48, 1),
        ("similarity", {}, 32, 1),
    ],
)
@pytest.mark.parametrize("dense_size", [0, 8])
def test_a_head_is_a_dense_layer_and_an_output(
    task: str, settings: dict[str, str], inputs: int, outputs: int, dense_size: int
) -> None:
    dense = (inputs + 1) * dense_size
    assert (
        weights(head(task, dense_size=dense_size, **settings))
        == dense + ((dense_size or inputs) + 1) * outputs
    )


def test_siamese_has_one_dense_layer_for_both_or_none() -> None:
    assert weights(head("similarity", similarity_head="siamese")) == 17 * 8
    assert weights(head("similarity", similarity_head="siamese", dense_size=0)) == 0


def test_siamese_gives_five_to_a_sentence_and_itself() -> None:
    siamese = head("similarity", similarity_head="siamese")
    assert siamese(U, U).tolist() == pytest.approx([5.0] * 6, abs=1e-5)


def test_siamese_is_symmetric_and_concat_is_not() -> None:
    siamese, concat = head("similarity", similarity_head="siamese"), head("similarity")
    assert torch.equal(siamese(U, V), siamese(V, U))
    assert not torch.allclose(concat(U, V), concat(V, U))


def test_difference_sees_the_distance_and_not_its_sign() -> None:
    difference = head("paraphrase", paraphrase_head="difference", dense_size=0)
    with torch.no_grad():
        difference.get_parameter("out.weight")[:, :32] = 0
    assert torch.equal(difference(U, V), difference(V, U))
    assert not torch.allclose(difference(U, V), difference(U, U))


def test_concat_similarity_starts_in_the_middle_of_the_scale() -> None:
    assert float(head("similarity")(U * 0, V * 0).mean().detach()) == pytest.approx(2.5, abs=0.5)


def test_predictions_are_classes_and_values() -> None:
    assert head("sentiment").predict(torch.eye(5)).tolist() == [0, 1, 2, 3, 4]
    assert head("paraphrase").predict(torch.tensor([-0.1, 0.1])).tolist() == [0, 1]
    assert head("similarity").predict(torch.tensor([5.5])).tolist() == [5.5]


def test_losses_are_means_over_the_batch() -> None:
    one, labels = head("sentiment"), torch.tensor([0.0, 4.0, 2.0])
    each = [one.loss(one(U[i : i + 1], None), labels[i : i + 1]).item() for i in range(3)]
    assert one.loss(one(U[:3], None), labels).item() == pytest.approx(sum(each) / 3)
