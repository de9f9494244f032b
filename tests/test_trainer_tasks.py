"""A task is a value: one that nothing lists is read, trained and scored like the built-in ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_types import not_none

from ablate.trainer.data.corpus import generate
from ablate.trainer.data.sources import Source
from ablate.trainer.data.tokens import load_tokens
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import build_head
from ablate.trainer.tasks.metrics import METRICS, scores
from ablate.trainer.tasks.registry import PAPER, TASKS
from ablate.trainer.tasks.task import Labels, Row, Task

NLI = Task(
    name="nli",
    columns=("sentence1", "sentence2"),
    labels=Labels("gold_label", top=2, whole=True),
    heads={"difference": "[u, v, |u - v|]"},
    loss="cross_entropy",
    metrics=("accuracy",),
    draw=lambda draw: Row(f"a {draw.random()}", f"b {draw.random()}", float(draw.randrange(3))),
)


def test_its_files_are_read_and_tokenized(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("sentence1,sentence2,gold_label\na,b,0\nc,d,2\n")
    found = load_tokens({NLI: Source(files=f"{tmp_path}/{{split}}.csv")}, "tiny", 16, tmp_path, ["train"])
    split = found.tasks["nli"]["train"]
    assert (not_none(split.labels).tolist(), len(split.columns)) == ([0, 2], 2)


def test_its_head_has_a_class_for_each_label_and_learns() -> None:
    head = build_head(NLI, "difference", hidden=8, dense_size=4, dropout=0.0)
    u, v = torch.randn(2, 6, 8)
    output = head(u, v)
    assert output.shape == (6, 3)
    head.loss(output, torch.tensor([0.0, 1, 2, 0, 1, 2])).backward()  # type: ignore[no-untyped-call]
    assert not_none(head.get_parameter("out.weight").grad).abs().sum() > 0


def test_it_is_scored_under_its_name() -> None:
    assert scores(NLI, torch.tensor([0.0, 2.0]).double(), np.array([0.0, 1.0]), "") == {"nli": 0.5}


def test_it_has_rows_of_a_built_in_corpus() -> None:
    assert set(not_none(generate(NLI, "train", 40).labels)) == {0, 1, 2}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_listed_task_is_complete(task: Task) -> None:
    assert set(task.metrics) <= METRICS.keys()
    for chosen in task.heads:
        build_head(task, chosen, hidden=8, dense_size=4, dropout=0.0)


def test_the_paper_names_listed_tasks() -> None:
    assert set(PAPER) <= TASKS.keys()
    assert Settings().tasks == PAPER
