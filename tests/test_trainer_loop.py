"""Training as a whole: every mode, repeated and resumed to the bit, without the rest of ablate."""

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import not_none
from trainer_context import Notebook, small

from ablate import trainer
from ablate.contract import Stopped
from ablate.errors import BadInput, TrialError
from ablate.trainer import combine, parts, smoke, train
from ablate.trainer.encoders.loading import Encoder
from ablate.trainer.encoders.padded import PaddedEncoder
from ablate.trainer.training.determinism import catch_out_of_memory
from ablate.trainer.training.loop import Training

SIAMESE = {"similarity_head": "siamese", "paraphrase_head": "difference"}
# A mode -> what it leaves behind, and its metrics.
Undisturbed = Callable[[str], tuple[Notebook, Mapping[str, float]]]

MODES: dict[str, dict[str, Any]] = {
    "joint": {},
    "pcgrad": {"surgery": "pcgrad", **SIAMESE},
    "gradvac": {"surgery": "gradvac"},
    "upgrad": {"surgery": "upgrad"},
    "sequential": {"training": "sequential", "max_steps": 3},
    "separate": {"training": "separate", "max_steps": 3},
    "alternate": {"mix": "alternate"},
    "temperature": {"mix": "temperature", "mix_temperature": 5.0},
    "annealed": {"mix": "annealed", "max_steps": None, "epochs": 2},
    "frozen": {"freeze_encoder": True, "pooling": "mean"},
    "best": {"select": "best", "eval_every": 2, "lr": {"encoder": 0.01}},
    "diverging": {"select": "best", "eval_every": 1, "lr": {"encoder": 0.3}, "clip": 0.0, "warmup": 0.0},
    "bf16": {"precision": "bf16", "surgery": "pcgrad"},
    "coupled": {"l2": 0.1, "l2_kind": "coupled", "schedule": "cosine"},
    "epochs": {"max_steps": None, "epochs": 2, "mix": "shortest", "reshuffle": False},
    "dualproj": {"surgery": "dualproj", "l2": 0.1},
    "aligned_mtl": {"surgery": "aligned_mtl", "pooling": "mean"},
    "mgda": {"surgery": "mgda", "precision": "bf16"},
    "imtl_g": {"surgery": "imtl_g", "l2": 0.1, "l2_kind": "coupled"},
    "fairgrad": {"surgery": "fairgrad", "precision": "bf16", "reshuffle": False},
    "uncertainty": {"balancing": "uncertainty", "surgery": "pcgrad", "precision": "bf16"},
    "dwa": {"balancing": "dwa", "max_steps": None, "epochs": 3, "mix": "shortest"},
    "dwa_bf16": {"balancing": "dwa", "precision": "bf16", "surgery": "upgrad"},
    "famo": {"balancing": "famo"},
    "famo_bf16": {"balancing": "famo", "precision": "bf16"},
    "cagrad": {"surgery": "cagrad", "precision": "bf16"},
    "nash_mtl": {"surgery": "nash_mtl"},
    "cr_mogm": {"surgery": "cr_mogm"},
    "random": {"surgery": "random"},
    "pcd": {"surgery": "pcd", "main_task": "similarity"},
    "graddrop": {"surgery": "graddrop", "precision": "bf16"},
    "trimmed_mean": {"surgery": "trimmed_mean"},
    "excess_mtl": {"surgery": "excess_mtl", "precision": "bf16"},
    "excess_mtl_lora": {"surgery": "excess_mtl", "lora": {"rank": 2}, "micro_batch": 2},
    "sequential_bf16": {"training": "sequential", "precision": "bf16", "pooling": "mean", "max_steps": 2},
    "separate_bf16": {"training": "separate", "precision": "bf16", "max_steps": 2},
    "bare_head": {"training": "separate", "similarity_head": "siamese", "dense_size": 0, "max_steps": 2},
    "frozen_bf16": {"freeze_encoder": True, "precision": "bf16"},
    "micro_batch": {"micro_batch": 2, "surgery": "pcgrad"},
    "patience": {
        "patience": 1,
        "eval_every": 1,
        "training": "sequential",
        "lr": {"encoder": 0.1, "heads": 0.1},
    },
    "r_drop": {"r_drop": 0.5, "surgery": "pcgrad", "precision": "bf16"},
    "lora": {"lora": {"rank": 2}, "surgery": "pcgrad", "select": "best", "eval_every": 2},
    "lora_in_pieces": {"lora": {"rank": 2, "matrices": "all"}, "micro_batch": 2, "lr": {"layer_decay": 0.5}},
    "layer_decay": {"lr": {"layer_decay": 0.5}, "l2": 0.1},
}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Train a mode once for the session; return its context and metrics."""
    folder, done = tmp_path_factory.mktemp("undisturbed"), {}

    def run(mode: str) -> tuple[Notebook, Mapping[str, float]]:
        if mode not in done:
            context = Notebook(folder / mode)
            done[mode] = (context, train(small(**MODES[mode]), context))
        return done[mode]

    return run


def same_files(a: Notebook, b: Notebook) -> bool:
    return {file.relative_to(a.workdir): file.read_text() for file in a.workdir.rglob("weights.json")} == {
        file.relative_to(b.workdir): file.read_text() for file in b.workdir.rglob("weights.json")
    }


@pytest.mark.parametrize("mode", ["joint", "sequential", "separate", "frozen", "bf16", "patience", "lora"])
def test_gives_all_metrics_and_predictions(mode: str, undisturbed: Undisturbed) -> None:
    context, metrics = undisturbed(mode)
    assert {"dev/sentiment", "dev/paraphrase", "dev/similarity", "dev/mean"} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())
    ids, predicted, gold = context.predicted["dev", "sentiment"]
    assert len(set(ids)) == len(predicted) == len(gold) == 12
    right = sum(p == g for p, g in zip(predicted, gold, strict=True))
    assert metrics["dev/sentiment"] == right / 12


@pytest.mark.parametrize("training", ["joint", "separate"])
def test_pairs_that_share_a_sentence_are_given_as_one_cluster(training: str, tmp_path: Path) -> None:
    rows = ["a b\tb c\t0\n", "d e\te f\t1\n", "B  C\tc d\t0\n"]
    for split in ("train", "dev"):
        table = "sentence1\tsentence2\tlabel\n" + "".join(rows if split == "dev" else rows[:2])
        (tmp_path / f"{split}.tsv").write_text(table)
    data = {**small().data.model_dump(), "paraphrase": {"files": str(tmp_path / "{split}.tsv")}}
    context = Notebook(tmp_path / training)
    train(small(data=data, training=training), context)
    assert context.clusters["dev", "paraphrase"] == ["paraphrase-0", "paraphrase-1", "paraphrase-0"]
    assert context.clusters["dev", "sentiment"] is None


@pytest.mark.parametrize(("blank", "told"), [("", {"sentiment": {"dev": 1}}), ("0", None)])
def test_rows_dropped_for_a_blank_label_are_told(
    blank: str, told: dict[str, dict[str, int]] | None, tmp_path: Path
) -> None:
    for split in ("train", "dev"):
        last = blank if split == "dev" else "0"
        (tmp_path / f"{split}.tsv").write_text(f"sentence\tlabel\nfine\t3\ndull\t1\nso so\t{last}\n")
    own = {"files": str(tmp_path / "{split}.tsv"), "blank_labels": "drop"}
    context = Notebook(tmp_path / "run")
    train(small(data={**small().data.model_dump(), "sentiment": own}), context)
    assert context.facts.get("dropped_rows") == told


def test_says_how_many_epochs_each_task_was_trained_for(undisturbed: Undisturbed) -> None:
    """`mix: shortest`: the shortest task is seen twice, the others in part."""
    context, _ = undisturbed("epochs")
    assert max(context.facts["epochs"].values()) == 2
    assert context.facts["examples"].keys() == {"sentiment", "paraphrase", "similarity"}


# That trials resume to the bit is the same claim about the other modes.
@pytest.mark.parametrize("mode", ["joint", "sequential", "separate", "frozen", "bf16"])
def test_the_same_seed_gives_the_same_bits(mode: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    first, metrics = undisturbed(mode)
    again = Notebook(tmp_path)
    assert train(small(**MODES[mode]), again) == metrics
    assert same_files(first, again)
    assert (again.points, again.predicted) == (first.points, first.predicted)


def test_training_is_said_to_have_begun_before_anything_is_loaded(tmp_path: Path) -> None:
    context = Notebook(tmp_path)
    with pytest.raises(BadInput):
        train(small(data={"sentiment": {"files": "gone/{split}.csv"}}), context)
    assert context.points == [(0, {})]


def test_another_seed_gives_other_weights(undisturbed: Undisturbed, tmp_path: Path) -> None:
    first, _ = undisturbed("joint")
    other = Notebook(tmp_path, seed=12)
    train(small(), other)
    assert other.weights != first.weights


@pytest.mark.parametrize(
    ("mode", "stop_after"),
    [
        *((mode, 4) for mode in MODES),
        ("pcgrad", 1),
        ("dwa", 10),
        ("pcgrad", 5),
        ("best", 5),
        ("separate", 6),
        ("separate", 9),
    ],
)
def test_resumes_to_the_bit(mode: str, stop_after: int, undisturbed: Undisturbed, tmp_path: Path) -> None:
    first, metrics = undisturbed(mode)
    stopped = Notebook(tmp_path, stop_after=stop_after)
    with pytest.raises(Stopped):
        train(small(**MODES[mode]), stopped)
    torch.manual_seed(0)  # what another process would find in torch's generator
    resumed = Notebook(tmp_path, state=stopped.state)
    assert train(small(**MODES[mode]), resumed) == metrics
    assert same_files(first, resumed)
    assert first.predicted.items() >= resumed.predicted.items()
    later = [point for point in first.points if point in resumed.points]
    assert later == resumed.points


def test_a_state_of_before_early_stopping_is_continued(undisturbed: Undisturbed, tmp_path: Path) -> None:
    _, metrics = undisturbed("sequential")
    stopped = Notebook(tmp_path, stop_after=4)
    with pytest.raises(Stopped):
        train(small(**MODES["sequential"]), stopped)
    del stopped.state["ended"], stopped.state["patience"]
    assert train(small(**MODES["sequential"]), Notebook(tmp_path, state=stopped.state)) == metrics


# item -> the mode that needs it, after which step, and what it is to lose it
LOST: dict[str, tuple[str, int, Callable[[Any], object]]] = {
    "weights": ("pcgrad", 3, lambda state: state["weights"]["encoder"].mul_(1.001)),
    "optimizer": ("pcgrad", 3, lambda state: [moments["exp_avg"].zero_() for moments in state["optimizer"]]),
    "torch": ("pcgrad", 3, lambda state: state.update(torch=torch.Generator().manual_seed(0).get_state())),
    # Gradients conflict in the last step only.
    "surgery": (
        "pcgrad",
        4,
        lambda state: state["surgery"].update(generator=torch.Generator().manual_seed(8).get_state()),
    ),
    "step": ("pcgrad", 3, lambda state: state.update(step=state["step"] - 1)),
    "stage": ("sequential", 3, lambda state: state.update(stage=1)),
    "balancing": ("famo", 3, lambda state: state.update(balancing={})),
    "window": ("joint", 3, lambda state: state["window"].setdefault("train/sentiment", []).append(9.0)),
    "best": ("diverging", 5, lambda state: state.update(best=None)),
    "ended": ("patience", 6, lambda state: state.update(ended=[5] * len(state["ended"]))),
    "patience": ("patience", 6, lambda state: state["patience"].update(best=9.0)),
}


def traces(context: Notebook) -> tuple[object, ...]:
    """Return everything a trial leaves behind."""
    return (
        {file.name: file.read_text() for file in context.workdir.rglob("weights.json")},
        {(step, name): value for step, point in context.points for name, value in point.items() if step > 3},
        context.predicted,
    )


@pytest.mark.parametrize("item", LOST)
def test_every_item_of_the_state_is_needed(item: str, undisturbed: Undisturbed, tmp_path: Path) -> None:
    mode, stop_after, lose = LOST[item]
    first, _ = undisturbed(mode)
    stopped = Notebook(tmp_path, stop_after=stop_after)
    with pytest.raises(Stopped):
        train(small(**MODES[mode]), stopped)
    assert LOST.keys() | {"cuda"} == stopped.state.keys()
    lose(stopped.state)
    resumed = Notebook(tmp_path, state=stopped.state)
    with contextlib.suppress(ValueError):  # moments of other parameters are refused before the first step
        train(small(**MODES[mode]), resumed)
    assert traces(resumed) != traces(first)


ALONE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from trainer_context import Notebook, small
from ablate.trainer import train
context = Notebook(Path({folder!r}))
train(small(surgery="pcgrad"), context)
print(context.weights)
"""


@pytest.mark.slow
def test_another_process_gives_the_same_bits(tmp_path: Path) -> None:
    def weights(hash_seed: str) -> str:
        code = ALONE.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "alone"))
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert len({weights(str(hash_seed)) for hash_seed in range(4)}) == 1


def test_a_state_is_plain(tmp_path: Path) -> None:
    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        return (
            all(map(plain, value))
            if isinstance(value, list)
            else type(value) in (int, float, torch.Tensor, type(None))
        )

    stopped = Notebook(tmp_path, stop_after=4)
    with pytest.raises(Stopped):
        train(small(select="best", eval_every=2, surgery="gradvac"), stopped)
    assert plain(stopped.state)
    assert stopped.state["best"] is not None


def test_parts_trained_apart_equal_separate_training(undisturbed: Undisturbed, tmp_path: Path) -> None:
    whole, metrics = undisturbed("separate")
    settings = small(**MODES["separate"])
    found = {}
    for name, part in parts(settings).items():
        context = Notebook(tmp_path / name)
        found[name] = train(part, context)
        assert context.weights == (whole.workdir / name / "weights.json").read_text()
    assert combine(settings, found) == metrics


def test_a_head_starts_alike_whatever_else_is_trained(tmp_path: Path) -> None:
    alone = Training(small(tasks=["similarity"]), Notebook(tmp_path / "alone")).heads["similarity"]
    among = Training(small(paraphrase_head="difference"), Notebook(tmp_path / "among")).heads["similarity"]
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), among.parameters(), strict=True))


def whole_gradients(training: Training) -> torch.Tensor:
    """The encoder's, with those of words that the step did not read: [owners, params]."""
    found, flat = not_none(training.encoder_gradients), training.encoder.flat
    if flat.table is None:
        return found.dense
    table = torch.zeros(len(found.owners), *flat.table.shape)
    table[:, found.words] = found.rows
    return torch.cat([table.flatten(1), found.dense], 1)


def test_without_surgery_the_encoder_gets_the_sum_of_the_tasks_gradients(tmp_path: Path) -> None:
    def gradient(**settings: Any) -> torch.Tensor:
        training = Training(small(dropout=0.0, **settings), Notebook(tmp_path))
        training._descend(training.stage.mixture.step(0))
        return whole_gradients(training).sum(0)

    together = gradient()
    assert together.norm() > 0
    assert torch.allclose(gradient(surgery="pcgrad"), together, atol=1e-5)
    apart = torch.stack([gradient(tasks=[task]) for task in small().tasks])
    assert torch.allclose(apart.sum(0), together, atol=1e-5)


def test_surgery_sees_the_same_gradients_with_and_without_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients() -> tuple[torch.Tensor, Encoder]:
        monkeypatch.setattr("ablate.trainer.encoders.loading._warm", {})
        training = Training(small(dropout=0.0, surgery="pcgrad"), Notebook(tmp_path))
        training._descend(training.stage.mixture.step(0))
        return whole_gradients(training), training.encoder

    packed, _ = gradients()
    monkeypatch.setattr("ablate.trainer.encoders.loading.unsupported", lambda config: "padded for once")
    padded, encoder = gradients()
    assert isinstance(encoder.module, PaddedEncoder)
    assert packed.norm(dim=1).min() > 0
    assert torch.allclose(padded, packed, atol=1e-5)


def test_heads_of_other_tasks_rest_in_sequential_training(tmp_path: Path) -> None:
    training = Training(small(training="sequential", max_steps=2, l2=0.5), Notebook(tmp_path, stop_after=4))
    before = training.flats["similarity"].values.clone()
    with pytest.raises(Stopped):
        training.run()
    assert torch.equal(training.flats["similarity"].values, before)
    # A checkpoint does not need what the seed gives.
    assert "similarity" not in training.state()["weights"]


def test_a_frozen_encoder_stays_as_it_was(tmp_path: Path) -> None:
    training = Training(small(freeze_encoder=True), Notebook(tmp_path))
    training.run()
    assert torch.equal(training.encoder.flat.values, training.encoder.pristine)


def test_frozen_features_are_computed_once_for_the_study(tmp_path: Path) -> None:
    first, second = Notebook(tmp_path / "a"), Notebook(tmp_path / "b")
    metrics = train(small(freeze_encoder=True), first)
    files = {file: file.stat().st_mtime_ns for file in first.cache.glob("features-*")}
    assert len(files) == 6  # three tasks, train and dev
    assert train(small(freeze_encoder=True), second) == metrics
    assert {file: file.stat().st_mtime_ns for file in second.cache.glob("features-*")} == files


def test_damaged_features_are_computed_again(tmp_path: Path) -> None:
    context = Notebook(tmp_path / "a")
    metrics = train(small(freeze_encoder=True), context)
    for file in context.cache.glob("features-*"):
        damaged = bytearray(file.read_bytes())
        damaged[-9] ^= 1
        file.write_bytes(damaged)
    assert train(small(freeze_encoder=True), Notebook(tmp_path / "b")) == metrics


def test_best_never_stands_without_the_last(undisturbed: Undisturbed) -> None:
    context, metrics = undisturbed("best")
    curve = context.curve("dev/mean")
    assert list(curve) == [2, 4, 5]
    assert metrics["dev/mean"] == max(curve.values())
    assert metrics["dev/mean@last"] == curve[5]


def test_curves_reach_from_the_first_step_to_the_last(undisturbed: Undisturbed) -> None:
    context, metrics = undisturbed("pcgrad")
    assert list(context.curve("train/sentiment")) == [1, 2, 3, 4, 5]
    assert list(context.curve("surgery/cosine.sentiment.paraphrase")) == [1, 2, 3, 4, 5]
    assert context.curve("dev/sentiment") == {5: metrics["dev/sentiment"]}


def test_each_stage_ends_when_its_tasks_stop_improving(undisturbed: Undisturbed) -> None:
    """`patience: 1`: at the first evaluation that is no better than the best. The next stage begins at once."""
    context, _ = undisturbed("patience")
    begin = 0
    for task in ("sentiment", "paraphrase", "similarity"):
        curve = {step: value for step, value in context.curve(f"dev/{task}").items() if step > begin}
        values = list(curve.values())
        improving = next(n for n in range(1, 6) if n == len(values) or values[n] <= max(values[:n]))
        assert list(context.curve(f"train/{task}")) == list(curve)[: improving + 1]
        begin = list(curve)[improving]
    assert context.facts["stopped_early"] == {"steps": begin, "of": 15}
    assert max(step for step, _ in context.points) == begin


def test_amounts_are_those_trained_when_a_trial_ends_early(undisturbed: Undisturbed) -> None:
    context, _ = undisturbed("patience")
    steps = {task: len(context.curve(f"train/{task}")) for task in context.facts["examples"]}
    sizes = {"sentiment": 3, "paraphrase": 4, "similarity": 5}
    # An epoch's last batch has the rest of 21.
    assert context.facts["examples"] == {task: min(n * sizes[task], 21) for task, n in steps.items()}


def test_until_it_ends_early_a_trial_has_the_bits_of_the_whole_one(tmp_path: Path) -> None:
    """The learning rate falls as over the full length."""
    bad = {"eval_every": 1, "lr": {"encoder": 0.1, "heads": 0.1}, "max_steps": 8}
    whole, early = Notebook(tmp_path / "whole"), Notebook(tmp_path / "early")
    train(small(**bad), whole)
    train(small(**bad, patience=1), early)
    assert early.facts["stopped_early"]["steps"] < 8
    curve = early.curve("train/sentiment")
    assert {step: whole.curve("train/sentiment")[step] for step in curve} == curve


def test_with_patience_left_a_trial_is_the_same(undisturbed: Undisturbed, tmp_path: Path) -> None:
    whole, metrics = undisturbed("best")
    patient = Notebook(tmp_path)
    assert train(small(**MODES["best"], patience=9), patient) == metrics
    assert patient.facts == whole.facts


def test_an_epoch_is_looked_at_when_it_ends(undisturbed: Undisturbed) -> None:
    context, _ = undisturbed("epochs")
    assert list(context.curve("dev/mean")) == [5, 10]  # 21 items: 7, 6 and 5 batches, the shortest counts


def test_training_goes_downhill(tmp_path: Path) -> None:
    context = Notebook(tmp_path)
    train(small(max_steps=60, dropout=0.0, pooling="mean"), context)
    curve = list(context.curve("train/similarity").values())
    assert sum(curve[-10:]) < 0.3 * sum(curve[:10])


def test_a_diverged_trial_says_where(tmp_path: Path) -> None:
    settings = small(
        lr={"encoder": 1.0, "heads": 1.0}, max_steps=200, clip=0.0, schedule="constant", warmup=0.0
    )
    training = Training(settings, Notebook(tmp_path))
    training.heads["paraphrase"].get_parameter("out.bias").data.fill_(math.nan)
    with pytest.raises(TrialError, match="step 1: train/paraphrase: the loss is nan"):
        training.run()


def test_a_gradient_that_is_not_finite_says_where(tmp_path: Path) -> None:
    training = Training(small(surgery="pcgrad"), Notebook(tmp_path))
    head = training.heads["sentiment"]

    def overflow(head: torch.nn.Module, into: Any, out: Any) -> Any:
        return tuple(g if g is None else g * math.inf for g in into)

    head.register_full_backward_hook(overflow)
    with pytest.raises(TrialError, match=r"step 1: .*gradient is not finite"):
        training.run()


def test_equal_predictions_have_no_correlation_and_none_is_made_up(tmp_path: Path) -> None:
    training = Training(small(lr={"encoder": 1e-9, "heads": 1e-9}), Notebook(tmp_path))
    training.heads["similarity"].get_parameter("head.out.weight").data.zero_()
    training.flats["similarity"].values.zero_()
    with pytest.raises(TrialError, match=r"step 5: dev/similarity: all 12 predictions are .*undefined"):
        training.run()


def test_a_trial_stopped_while_looking_at_dev_does_not_change_the_next_one(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    first, metrics = undisturbed("joint")
    with pytest.raises(Stopped):
        train(small(), _StoppedInEvaluation(tmp_path / "stopped"))
    assert train(small(), again := Notebook(tmp_path / "again")) == metrics
    assert same_files(first, again)


class _StoppedInEvaluation(Notebook):
    def checkpoint(self, step: int, state: Any) -> None:
        if step == self.stop_after:  # asked again at the same step: the evaluation has begun
            raise Stopped
        self.stop_after = step


def test_memory_that_runs_out_is_the_trials_failure(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="out of memory"):
        train(small(dense_size=65_536, dropout=0.0, tasks=["paraphrase"]), _Starved(tmp_path))


class _Starved(Notebook):
    def checkpoint(self, step: int, state: Any) -> None:
        torch.empty(2**55)


def test_the_test_split_is_scored_by_the_kept_model(undisturbed: Undisturbed) -> None:
    context, _ = undisturbed("pcgrad")
    metrics = trainer.test(small(**MODES["pcgrad"]), context)
    assert metrics.keys() == {"test/sentiment", "test/paraphrase", "test/similarity", "test/mean"}
    assert len(context.predicted.pop(("test", "similarity"))[0]) == 12
    for task in ("sentiment", "paraphrase"):
        context.predicted.pop(("test", task))


@pytest.mark.parametrize(
    "settings", [{}, {"training": "separate", "surgery": "none"}, {"freeze_encoder": True, "surgery": "none"}]
)
def test_smoke_trains_any_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    shrunk = smoke(small(**{"surgery": "pcgrad", "precision": "bf16", **settings})).model_copy(
        update={"data": small().data}
    )
    assert "dev/mean" in train(shrunk, Notebook(tmp_path))


@pytest.mark.parametrize("told", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"])
def test_a_gpus_memory_that_runs_out_is_told_apart_from_a_lost_gpu(told: str) -> None:
    with pytest.raises(TrialError, match="out of memory"), catch_out_of_memory():
        raise RuntimeError(told)
