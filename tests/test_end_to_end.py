"""The main job with the real trainer on the built-in corpus: run, be killed, resume, report, export, load the model."""

import json
import os
import signal
from pathlib import Path

import pytest
from fixture_types import Ablate, Json, StartAblate
from test_runner_run import wait_for

STUDIES = Path(__file__).parent.parent / "studies"
STUDY = """\
study: joint
trainer: ablate.trainer
settings:
  {pooling: mean, training: joint, surgery: pcgrad, reshuffle: true, max_steps: 12, max_length: 32, data: {
    sentiment: {limit: {train: 96, dev: 40}},
    paraphrase: {limit: {train: 96, dev: 40}},
    similarity: {limit: {train: 96, dev: 40}}}}
factors:
  similarity_head: [concat, siamese]
baseline: {similarity_head: concat}
design: full
seeds: [11]
metric: {name: dev/mean}
"""


@pytest.fixture
def joint_study(tmp_path: Path) -> Path:
    path = tmp_path / "joint.yaml"
    path.write_text(STUDY)
    return path


def outcome(home: Path, document: Json) -> Json:
    """Return each trial's metrics, and the digest of the weights it ended with."""
    return {
        trial["cell"]: (
            trial["metrics"],
            json.loads((home / f"joint/trials/{trial['cell']}-11/weights.json").read_text())["sha256"],
        )
        for trial in document["trials"]
    }


def test_killed_and_resumed_training_ends_in_the_same_bits(
    ablate: Ablate, start_ablate: StartAblate, joint_study: Path, tmp_path: Path
) -> None:
    done = ablate("run", joint_study, "--home", "reference", "--json")
    assert done.returncode == 0, done.stderr
    reference = outcome(tmp_path / "reference", json.loads(done.stdout))

    supervisor = start_ablate("run", joint_study, ABLATE_CHECKPOINT_SECONDS="0")
    wait_for(lambda: list(tmp_path.glob("runs/joint/trials/*/step-*.checkpoint")))
    worker = int(Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()[0])
    for pid in (worker, supervisor.pid):
        os.kill(pid, signal.SIGKILL)
    again = ablate("run", joint_study, "--json")
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert outcome(tmp_path / "runs", document) == reference
    assert max(trial["attempts"] for trial in document["trials"]) == 2


def test_a_finished_study_is_reported_exported_and_opened(
    ablate: Ablate, joint_study: Path, tmp_path: Path
) -> None:
    assert ablate("run", joint_study).returncode == 0
    reported = ablate("report", "joint", "--json")
    assert reported.returncode == 0, reported.stderr
    assert len(json.loads(reported.stdout)["cells"]) == 2
    assert "![" in (tmp_path / "reports/joint/report.md").read_text()
    exported = ablate("export", "joint", "--format", "cs224n")
    assert exported.returncode == 0, exported.stderr
    lines = (tmp_path / "exports/joint/sst-dev-output.csv").read_text().splitlines()
    assert lines[0] == "id \t Predicted_Sentiment "
    assert lines[1].count(" , ") == 1


@pytest.mark.slow
def test_the_exported_model_loads_in_transformers(ablate: Ablate, joint_study: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    ablate("run", joint_study, "--limit", 2)
    assert ablate("export", "joint").returncode == 0
    folder = tmp_path / "exports/joint/model"
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("the film was good", return_tensors="pt")
    assert model(**tokens).last_hidden_state.shape[-1] == 128


@pytest.mark.slow
def test_smoke_runs_every_cell_of_a_big_study(ablate: Ablate, tmp_path: Path) -> None:
    done = ablate("run", STUDIES / "paper.yaml", "--smoke", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["study"] == "paper-smoke"
    assert (document["planned"], document["complete"]) == (11, 11)


def test_only_best_is_one_trial_a_seed(ablate: Ablate, tmp_path: Path) -> None:
    done = ablate("run", STUDIES / "paper.yaml", "--smoke", "--only", "best", "--json")
    (best,) = [trial for trial in json.loads(done.stdout)["trials"] if trial["state"] == "COMPLETE"]
    assert best["factors"] == {
        "dense_size": 256,
        "similarity_head": "siamese",
        "paraphrase_head": "difference",
        "training": "joint",
        "surgery": "pcgrad",
        "reshuffle": True,
        "batches": "paper",
        "l2": 0.01,
    }


def test_a_hub_name_without_network_is_one_line(ablate: Ablate, joint_study: Path) -> None:
    joint_study.write_text(STUDY.replace("{pooling:", "{encoder: google-bert/bert-base-uncased, pooling:"))
    done = ablate("run", joint_study)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "google-bert/bert-base-uncased" in done.stderr


@pytest.mark.slow
def test_quickstart_learns_something_in_every_task_and_finds_what_is_built_in(
    ablate: Ablate, start_ablate: StartAblate
) -> None:
    assert start_ablate("run", STUDIES / "quickstart.yaml", "--workers", 2).wait(timeout=1800) == 0
    report = json.loads(ablate("report", "quickstart", "--json").stdout)
    assert not {"constant_predictions", "majority_class"} & {flag["rule"] for flag in report["flags"]}
    verdicts = {row["factor"]: row["verdict"] for row in report["effects"] if row["metric"] == "dev/mean"}
    assert (verdicts["paraphrase_head"], verdicts["similarity_head"]) == ("helps", "helps")
    assert verdicts["l2"] == "no difference that matters"
