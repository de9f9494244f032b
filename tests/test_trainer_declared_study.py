"""Studies that declare their tasks: planned, run, killed and resumed, tested and reported by the command line."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from declared_tasks import write_files
from fixture_types import Ablate, RunHere, StartAblate
from ruamel.yaml import YAML
from test_runner_run import wait_for

from ablate.errors import BadInput
from ablate.runner.prepare import prepare
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.declared_kinds import KINDS, PAIR_HEADS
from ablate.trainer.tasks.declared_presets import PRESETS
from ablate.trainer.tasks.metrics import METRICS

STUDY = """\
study: four
trainer: ablate.trainer
settings:
  pooling: mean
  dense_size: 8
  max_steps: 6
  max_length: 32
  training: joint
  tasks:
    topic: {kind: classification, labels: 3, files: "classification-{split}.csv", batch_size: 4, metric: macro_f1}
    nli: {kind: pair_classification, labels: [contradiction, neutral, entailment], files: "pair_classification-{split}.csv"}
    scores: {kind: pair_regression, range: [0, 1], head: siamese, metric: spearman, limit: {train: 30, dev: 20, test: 20}}
    slots: {kind: multilabel, labels: [who, did, what], files: "multilabel-{split}.csv", weight: 0.5}
factors:
  tasks.nli.head: [difference, cross]
baseline: {tasks.nli.head: difference}
design: full
seeds: [1]
metric: {name: dev/mean}
"""


@pytest.fixture
def four(tmp_path: Path) -> Path:
    for kind in ("classification", "pair_classification", "multilabel"):
        write_files(tmp_path, kind)
    path = tmp_path / "four.yaml"
    path.write_text(STUDY)
    return path


def outcome(home: Path, document: Any) -> Any:
    """Return each trial's metrics, and the digest of the weights it ended with."""
    return {
        (trial["cell"], trial["seed"]): (
            trial["metrics"],
            (home / f"four/trials/{trial['cell']}-{trial['seed']}/weights.json").read_text(),
        )
        for trial in document["trials"]
    }


@pytest.mark.slow
def test_four_declared_tasks_are_run_killed_resumed_tested_and_reported(
    ablate: Ablate, start_ablate: StartAblate, run_here: RunHere, four: Path, tmp_path: Path
) -> None:
    supervisor = start_ablate("run", four, ABLATE_CHECKPOINT_SECONDS="0")
    wait_for(lambda: list(tmp_path.glob("runs/four/trials/*/step-*.checkpoint")))
    worker = int(Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()[0])
    for pid in (worker, supervisor.pid):
        os.kill(pid, signal.SIGKILL)
    again = ablate("run", four, "--json")
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    undisturbed = run_here(four, "reference")
    assert outcome(tmp_path / "runs", document) == outcome(tmp_path / "reference", undisturbed)
    assert max(trial["attempts"] for trial in document["trials"]) == 2

    tested = ablate("test", "four", "--json")
    assert tested.returncode == 0, tested.stderr
    assert {"test/topic", "test/nli", "test/scores", "test/slots", "test/mean"} <= json.loads(tested.stdout)[
        "metrics"
    ].keys()
    reported = ablate("report", "four", "--json")
    assert reported.returncode == 0, reported.stderr
    flags = [flag for flag in json.loads(reported.stdout)["flags"] if flag["rule"] == "predictions_unused"]
    assert [flag["severity"] for flag in flags] == ["note"]
    assert "dev/scores, dev/slots, dev/topic" in flags[0]["evidence"]


def test_a_head_is_a_factor(four: Path) -> None:
    design = prepare(four).design
    assert [cell.settings["tasks"]["nli"].get("head") for cell in design.cells] == ["difference", "cross"]


@pytest.mark.parametrize(
    ("address", "levels", "baseline"),
    [
        ("tasks.scores.loss", "[mse, cosine, cosent, mnrl]", "mse"),
        ("tasks.topic.label_smoothing", "[0.0, 0.1]", "0.0"),
        ("tasks.topic.class_weights", "{levels: {own: [1, 2, 1], rare: balanced}}", "own"),
    ],
)
def test_the_loss_of_a_task_is_a_factor(address: str, levels: str, baseline: str, four: Path) -> None:
    factor = f"factors:\n  {address}: {levels}\nbaseline: {{{address}: {baseline}}}\ndesign"
    four.write_text(re.sub(r"(?s)factors:.*design", factor, STUDY))
    cells = prepare(four).design.cells
    assert len({cell.hash for cell in cells}) == len(cells) > 1


def test_only_the_part_of_the_task_that_varies_is_trained_again(four: Path) -> None:
    four.write_text(STUDY.replace("training: joint", "training: separate"))
    first, second = prepare(four).design.cells
    assert {name for name in first.parts if first.parts[name].hash != second.parts[name].hash} == {"nli"}


def test_the_batch_size_of_a_task_is_a_factor_and_can_be_set(four: Path) -> None:
    four.write_text(
        STUDY.replace("tasks.nli.head", "tasks.topic.batch_size").replace("[difference, cross]", "[2, 8]")
    )
    text = four.read_text().replace("batch_size: 4, ", "").replace(": difference}", ": 2}")
    four.write_text(text)
    prepared = prepare(four, overrides=("tasks.nli.head=product",))
    assert [cell.settings["tasks"]["topic"]["batch_size"] for cell in prepared.design.cells] == [2, 8]
    assert prepared.design.cells[0].settings["tasks"]["nli"]["head"] == "product"


def test_the_example_of_the_documentation_is_valid() -> None:
    text = (Path(__file__).parent.parent / "docs" / "how_to" / "tasks.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    settings = Settings.model_validate(YAML(typ="safe").load(example)["settings"])
    assert [task.name for task in settings.trained] == ["nli", "rte", "scores", "topics"]


CHOICES = Settings.model_json_schema()["properties"]


@pytest.mark.parametrize(
    "name",
    [
        *(*KINDS, *PAIR_HEADS, *METRICS, *PRESETS, *KINDS["pair_regression"].losses),
        *(
            choice
            for key in ("mix", "balancing", "surgery")
            for choice in CHOICES[key]["enum"]
            if choice != "none"
        ),
    ],
)
def test_the_documentation_names_everything_that_can_be_declared(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parent.parent / "docs" / "how_to" / "tasks.md").read_text()


HEADER = "study: s\ntrainer: ablate.trainer\nsettings:\n"
REST = "factors: {dense_size: [8, 16]}\nbaseline: {dense_size: 8}\ndesign: full\nseeds: [1]\nmetric: {name: dev/t}\n"
PAIR = "kind: pair_classification, labels: 3"
ONE = "kind: classification, labels: 3"
SCORES = "kind: pair_regression, range: [0, 1]"
SIAMESE = f"{SCORES}, head: siamese"


@pytest.mark.parametrize(
    ("task", "fault"),
    [
        (
            f"t: {{{PAIR}, head: diference}}",
            "5:47: settings.tasks.t.head: a pair_classification has no head 'diference'",
        ),
        (f"t: {{{PAIR}, head: diference}}", "; did you mean 'difference'?"),
        (f"t: {{{ONE}, head: concat}}", "a classification has no head 'concat'; known: sentence"),
        (
            f"t: {{{ONE}, metric: pearson}}",
            "a classification has no metric 'pearson'; known: accuracy, macro_f1, mcc",
        ),
        (f"t: {{{ONE}, metric: acuracy}}", "; did you mean 'accuracy'?"),
        (f"t: {{{PAIR}, haed: concat}}", "the trainer has no setting 'tasks.t.haed'; did you mean 'head'?"),
        (
            "t: {kind: clasification, labels: 3}",
            "5:9: settings.tasks.t.kind: there is no kind 'clasification'; did you",
        ),
        ("t: {labels: 3}", "5:5: settings.tasks.t.kind: the trainer needs 'tasks.t.kind'"),
        ("t: {kind: classification}", "5:5: settings.tasks.t.labels: missing; give the number of labels"),
        (
            "t: {kind: classification, labels: 1}",
            "settings.tasks.t.labels: found 1; give the number of labels, 2 to 65536",
        ),
        ("t: {kind: classification, labels: 2.5}", "settings.tasks.t.labels: found 2.5; give"),
        ("t: {kind: classification, labels: true}", "settings.tasks.t.labels: found true; give"),
        (
            "t: {kind: classification, labels: [a]}",
            "settings.tasks.t.labels: found 'a'; give two or more different names",
        ),
        (
            "t: {kind: classification, labels: [a, a]}",
            "settings.tasks.t.labels: found 'a', 'a'; give two or more different",
        ),
        (
            "t: {kind: classification, labels: [0, 1]}",
            "settings.tasks.t.labels: 0 is not text; put the names of labels in q",
        ),
        (
            "t: {kind: classification, labels: [a, ' ']}",
            "settings.tasks.t.labels: ' ' is blank or has spaces around it",
        ),
        (
            "t: {kind: multilabel, labels: [a, 'b|c']}",
            "settings.tasks.t.labels: 'b|c' contains |, which separates labels",
        ),
        (
            "t: {kind: classification, labels: 3, range: [0, 1]}",
            "a classification has classes; give their labels instead",
        ),
        ("t: {kind: regression}", "5:5: settings.tasks.t.range: missing; give [lowest label, highest label]"),
        (
            "t: {kind: regression, labels: 3, range: [0, 1]}",
            "a regression has numbers; give their range: [lowest, highest]",
        ),
        (
            "t: {kind: regression, range: [1, 0]}",
            "5:27: settings.tasks.t.range: found [1, 0]; give the lowest label first",
        ),
        (
            "t: {kind: regression, range: 5}",
            "settings.tasks.t.range: found 5; give [lowest label, highest label]",
        ),
        ("t: {kind: regression, range: [0, .inf]}", "settings.tasks.t.range"),
        (
            "t: {preset: glue/rta}",
            "5:9: settings.tasks.t.preset: there is no preset 'glue/rta'; did you mean 'glue/rte'?",
        ),
        ("t: {preset: 3}", "settings.tasks.t.preset: there is no preset 3; known: glue/cola"),
        ("t: 3", "5:5: settings.tasks.t: found 3; declare a task by a mapping"),
        (
            f"t: {{{ONE}, batch_size: 0}}",
            "settings.tasks.t.batch_size: input should be greater than or equal to 1, found 0",
        ),
        (
            f"t: {{{ONE}, weight: -1}}",
            "settings.tasks.t.weight: input should be greater than or equal to 0, found -1",
        ),
        (
            f"t: {{{ONE}, weight: 0}}",
            "4:3: settings.tasks: every weight is 0; give at least one task a weight",
        ),
        (
            f"t: {{{SCORES}, loss: cosent}}",
            "5:47: settings.tasks.t.loss: cosent works on cosines, found head: concat; write head: siamese",
        ),
        (
            f"t: {{{SCORES}, head: cross, loss: mnrl}}",
            "mnrl works on cosines, found head: cross; write head: siamese",
        ),
        (
            f"t: {{{SIAMESE}, loss: cosentt}}",
            "a pair_regression has no loss 'cosentt'; did you mean 'cosent'?",
        ),
        (f"t: {{{ONE}, loss: mse}}", "a classification has no loss 'mse'; known: cross_entropy"),
        (
            f"t: {{{SIAMESE}, loss: cosent, metric: r2}}",
            "settings.tasks.t.loss: cosent learns only the order of the pairs, but metric: r2 scores their values; use spearman",
        ),
        (
            f"t: {{{SIAMESE}, loss: cosine, scale: 20}}",
            "settings.tasks.t.scale: it is only used by loss: cosent or mnrl; leave scale out, or choose such a loss",
        ),
        (
            f"t: {{{SIAMESE}, loss: cosent, positive_from: 0.5}}",
            "settings.tasks.t.positive_from: it is only used by loss: mnrl; leave positive_from out",
        ),
        (
            f"t: {{{SIAMESE}, loss: cosent, scale: 0}}",
            "settings.tasks.t.scale: input should be greater than 0",
        ),
        (
            f"t: {{{SCORES}, label_smoothing: 0.1}}",
            "settings.tasks.t.label_smoothing: a pair_regression has numbers, and only classes can be smoothed",
        ),
        (
            f"t: {{{ONE}, label_smoothing: 1}}",
            "settings.tasks.t.label_smoothing: input should be less than 1",
        ),
        (
            f"t: {{{SCORES}, class_weights: balanced}}",
            "settings.tasks.t.class_weights: a pair_regression does not have one class per item; leave it out",
        ),
        (
            "t: {kind: multilabel, labels: 3, class_weights: [1, 1, 1]}",
            "settings.tasks.t.class_weights: a multilabel does not have one class per item; leave it out",
        ),
        (
            f"t: {{{ONE}, class_weights: [1, 2]}}",
            "5:42: settings.tasks.t.class_weights: found [1, 2]; write balanced, or a list of 3 positive numbers, one per label",
        ),
        (
            f"t: {{{ONE}, class_weights: [1, 2, -1]}}",
            "found [1, 2, -1]; write balanced, or a list of 3 positive",
        ),
        (f"t: {{{ONE}, class_weights: equal}}", "found 'equal'; write balanced, or a list of 3 positive"),
        (
            f"t: {{{ONE}, files: t.csv}}",
            "files: 't.csv' has no {split} in it; write for example data/name-{split}.csv",
        ),
        (
            f"t: {{{ONE}, limit: {{trian: 3}}}}",
            "settings.tasks.t.limit: 'trian' is not one of train, dev, test; did you mean",
        ),
        (f"t: {{{ONE}, hub: a, files: '{{split}}'}}", "both hub and files are given; keep one of them"),
        (f"mean: {{{ONE}}}", "4:3: settings.tasks: 'mean' cannot be the name of a task; use a letter"),
        (f"a b: {{{ONE}}}", "'a b' cannot be the name of a task; use a letter"),
        (
            f"t: {{{ONE}}}\n  data: {{t: {{}}}}",
            "6:3: settings.data: is set in each task when tasks are declared; write",
        ),
        (
            f"t: {{{ONE}}}\n  batch_size: {{t: 3}}",
            "6:3: settings.batch_size: is set in each task when tasks are declared",
        ),
        (
            f"t: {{{ONE}}}\n  similarity_head: siamese",
            "6:3: settings.similarity_head: is set in each task when tasks are",
        ),
    ],
)
def test_a_fault_of_a_declared_task_is_named_at_its_place(task: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"{HEADER}  tasks:\n    {task}\n{REST}")
    with pytest.raises(BadInput) as caught:
        prepare(path, home=tmp_path)
    assert len(caught.value.faults) == 1
    assert fault in caught.value.faults[0]
    assert caught.value.faults[0].startswith(f"{path}:")
