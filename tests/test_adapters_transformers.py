"""A transformers `Trainer` under the contract: whatever it uses, stopped and continued it ends in the same bits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from stopping import trained
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from ablate.adapters.transformers import fit
from ablate.contract import Context, Pruned
from ablate.errors import BadInput

STEPS = 8  # of 12 items, four in a batch: two epochs and two steps


def sentences(seed: int, n: int) -> Dataset:
    words = np.random.default_rng(seed).integers(0, 16, (n, 9))
    labels = (words < 8).sum(axis=1) > 4
    return Dataset.from_dict({"input_ids": words.tolist(), "labels": labels.astype(int).tolist()})


def tiny_bert() -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=16,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            max_position_embeddings=16,
        )
    )


def accuracy(evaluation: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float(np.mean(np.argmax(evaluation.predictions, axis=1) == evaluation.label_ids))}


def make(context: Context, callbacks: Callable[[], Any] = list, collator: Any = None, **args: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "output_dir": str(context.workdir / "given"),
        "use_cpu": True,
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 2,
    }
    return Trainer(
        model_init=tiny_bert,
        args=TrainingArguments(**defaults | args),
        train_dataset=sentences(0, 12),
        eval_dataset=sentences(1, 12),
        compute_metrics=accuracy,
        data_collator=collator,
        callbacks=callbacks(),
    )


def masking(items: Any) -> Any:
    """Draw from all three generators for each batch."""
    batch = default_data_collator(items)
    hidden = torch.rand(batch["input_ids"].shape) < 0.2
    batch["input_ids"][hidden] = int(np.random.randint(16))
    return batch


class Counting(TrainerCallback):
    """Keeps no state across attempts, and draws a random number in each step."""

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        torch.rand(1)


BEST: dict[str, Any] = {
    "load_best_model_at_end": True,
    "metric_for_best_model": "loss",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "scheduler": {"lr_scheduler_type": "cosine", "warmup_steps": 4},
    "accumulation": {"gradient_accumulation_steps": 2},
    "epochs": {"eval_strategy": "epoch", "logging_strategy": "epoch", "max_steps": -1, "num_train_epochs": 3},
    "collator": {"collator": masking},
    "processes": {"collator": masking, "dataloader_num_workers": 1, "max_steps": 4},
    "by length": {"train_sampling_strategy": "group_by_length"},
    "unseeded sampler": {"accelerator_config": {"use_seedable_sampler": False}},
    "plateau": {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "metric_for_best_model": "loss",
        "eval_steps": 1,
    },
    "best": BEST,
    "early stopping": BEST
    | {
        "callbacks": lambda: [EarlyStoppingCallback(2)],
        "metric_for_best_model": "accuracy",
        "learning_rate": 0.0,
    },
    "drawing callback": {"callbacks": lambda: [Counting()]},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


QUICK = ("scheduler", "accumulation", "collator", "best", "drawing callback")


@pytest.mark.parametrize(
    "variant", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_stopped_after_every_step_it_ends_in_the_same_bits(variant: str, tmp_path: Path) -> None:
    def train(context: Context) -> dict[str, float]:
        return fit(make(context, **VARIANTS[variant]), context, predictions="accuracy")

    undisturbed = trained(train, tmp_path / "undisturbed")
    stopped = trained(train, tmp_path / "stopped", stops=range(STEPS + 2))
    assert stopped == undisturbed
    assert stopped.attempts > 4
    assert undisturbed.predictions


def test_it_trains_what_the_trainer_alone_would(tmp_path: Path) -> None:
    trainers: list[Any] = []

    def train(context: Context) -> dict[str, float]:
        trainers.extend([make(context), make(context, seed=11, save_strategy="no")])
        return fit(trainers[0], context)

    outcome = trained(train, tmp_path)
    alone = trainers[1]
    set_seed(11)
    alone.train()
    scores = alone.evaluate()
    assert outcome.metrics == {"dev/loss": scores["eval_loss"], "dev/accuracy": scores["eval_accuracy"]}
    for mine, theirs in zip(trainers[0].model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_curves_have_the_contracts_names(tmp_path: Path) -> None:
    outcome = trained(lambda context: fit(make(context), context), tmp_path)
    assert {name for _, name, _ in outcome.points} == {
        "train/loss",
        "train/grad_norm",
        "train/learning_rate",
        "dev/loss",
        "dev/accuracy",
    }
    assert [step for step, name, _ in outcome.points if name == "dev/loss"] == [2, 4, 6, 8]
    assert set(outcome.metrics) == {"dev/loss", "dev/accuracy"}


def test_the_best_model_is_scored_and_the_last_one_beside_it(tmp_path: Path) -> None:
    # The best is the one with the highest loss, so that it is not the last.
    args = BEST | {"greater_is_better": True, "learning_rate": 0.1}
    outcome = trained(lambda context: fit(make(context, **args), context), tmp_path)
    curve = [value for _, name, value in outcome.points if name == "dev/loss"]
    assert outcome.metrics["dev/loss"] == max(curve)
    assert outcome.metrics["dev/loss@last"] == curve[-1] != max(curve)


def test_it_leaves_nothing_behind_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def train(context: Context) -> dict[str, float]:
        return fit(make(context, **BEST, output_dir="litter"), context)

    trained(train, tmp_path / "work")
    assert os.listdir(tmp_path) == ["work"]
    assert os.listdir(tmp_path / "work") == []
    assert capsys.readouterr() == ("", "")


def test_predictions_are_those_of_the_items_in_their_order(tmp_path: Path) -> None:
    def train(context: Context) -> dict[str, float]:
        trainer = make(context, train_sampling_strategy="group_by_length")
        return fit(trainer, context, predictions="accuracy", ids=[f"item {i}" for i in range(12)])

    outcome = trained(train, tmp_path)
    rows = [line.split(",") for line in outcome.predictions["dev.accuracy.csv"].splitlines()[1:]]
    assert [row[0] for row in rows] == [f"item {i}" for i in range(12)]
    assert [int(row[2]) for row in rows] == sentences(1, 12)["labels"]
    assert np.mean([row[1] == row[2] for row in rows]) == outcome.metrics["dev/accuracy"]


def test_each_evaluation_set_has_its_own_predictions(tmp_path: Path) -> None:
    def train(context: Context) -> dict[str, float]:
        trainer = make(context, eval_strategy="no")
        trainer.eval_dataset = {"short": sentences(1, 6), "long": sentences(2, 8)}
        return fit(trainer, context, predictions="accuracy")

    outcome = trained(train, tmp_path)
    assert set(outcome.predictions) == {"dev.short_accuracy.csv", "dev.long_accuracy.csv"}
    assert {"dev/short_accuracy", "dev/long_accuracy"} <= set(outcome.metrics)


def test_another_seed_trains_another_model(tmp_path: Path) -> None:
    def train(context: Any) -> dict[str, float]:
        context.seed = 12
        return fit(make(context), context)

    first = trained(lambda context: fit(make(context), context), tmp_path / "first")
    assert trained(train, tmp_path / "second").metrics != first.metrics


def test_pruning_passes_through_and_the_next_training_is_unharmed(tmp_path: Path) -> None:
    def pruned(context: Any) -> dict[str, float]:
        def report(step: int, metrics: dict[str, float]) -> None:
            if "dev/loss" in metrics:
                raise Pruned

        context.report = report
        return fit(make(context, **BEST), context)

    def whole(context: Context) -> dict[str, float]:
        return fit(make(context), context)

    before = trained(whole, tmp_path / "before")
    with pytest.raises(Pruned):
        trained(pruned, tmp_path / "pruned")
    assert trained(whole, tmp_path / "after") == before
    assert not list((tmp_path / "pruned").rglob("checkpoint-*"))


REFUSED: dict[str, tuple[Callable[[Trainer], object], str]] = {
    "data skip": (lambda trainer: setattr(trainer.args, "ignore_data_skip", True), "ignore_data_skip"),
    "batch size": (
        lambda trainer: setattr(trainer.args, "auto_find_batch_size", True),
        "auto_find_batch_size",
    ),
    "evaluation": (lambda trainer: setattr(trainer, "eval_dataset", None), "no eval_dataset"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_resumed_exactly_is_refused(fault: str, tmp_path: Path) -> None:
    change, message = REFUSED[fault]

    def train(context: Context) -> dict[str, float]:
        trainer = make(context)
        change(trainer)
        return fit(trainer, context)

    with pytest.raises(BadInput, match=message):
        trained(train, tmp_path)


class CutShort(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_epoch_stop = state.global_step == 3


def test_an_epoch_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="ended early, at step 3"):
        trained(lambda context: fit(make(context, callbacks=lambda: [CutShort()]), context), tmp_path)


def test_predictions_that_are_not_one_per_item_are_refused(tmp_path: Path) -> None:
    def train(context: Context) -> dict[str, float]:
        trainer = make(context, max_steps=1, eval_strategy="no")
        trainer.preprocess_logits_for_metrics = lambda logits, labels: logits[:, None, :]
        trainer.compute_metrics = None
        return fit(trainer, context, predictions="accuracy")

    with pytest.raises(BadInput, match=r"outputs \(12, 1, 2\), labels \(12,\)"):
        trained(train, tmp_path)
