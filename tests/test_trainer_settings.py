import itertools
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from ablate.trainer.parts import combine, parts, smoke
from ablate.trainer.settings import ONE_TASK_A_STEP, Settings


def test_the_door_loads_neither_torch_nor_transformers() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'tokenizers', 'datasets'}"
    code = f"import sys, ablate.trainer as t; t.parts(t.Settings()); print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"dense_sise": 1},
        {"dense_size": -1},
        {"dense_size": True},
        {"dense_size": "8"},
        {"l2": float("nan")},
        {"l2": float("inf")},
        {"dropout": 1.0},
        {"warmup": 1.5},
        {"epochs": 0},
        {"max_steps": 0},
        {"batch_size": {"sentiment": 0}},
        {"batch_size": {"sentimant": 2}},
        {"lr": {"encoder": 0.0}},
        {"lr": {"heads": float("nan")}},
        {"reshuffle": "no"},
        {"precision": "fp16"},
        {"tasks": []},
        {"tasks": ["sentiment", "sentiment"]},
        {"tasks": ["entailment"]},
        {"encoder": ""},
        {"freeze_encoder": True, "similarity_head": "siamese", "dense_size": 0, "training": "separate"},
        {"data": {"sentiment": {"files": "no-placeholder.csv"}}},
    ],
    ids=str,
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"training": "separate"}, "needs training: joint"),
        ({"training": "sequential"}, "needs training: joint"),
        *(({"mix": mix}, f"mix: {mix} trains one at a time") for mix in ONE_TASK_A_STEP),
        ({"tasks": ["sentiment"]}, "at least two tasks"),
        ({"freeze_encoder": True}, "leaves none"),
    ],
)
@pytest.mark.parametrize("method", [("surgery", "pcgrad"), ("balancing", "dwa")])
def test_surgery_and_balancing_need_several_tasks_in_each_step(
    method: tuple[str, str], beside: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        Settings.model_validate({**dict([method]), **beside})
    assert caught.value.errors()[0]["loc"] == method[:1]  # the study's reader points there


SCORES = {"kind": "pair_regression", "range": [0, 1], "head": "siamese"}


@pytest.mark.parametrize(
    ("method", "beside", "reason"),
    [
        (
            "famo",
            {"surgery": "pcgrad"},
            "famo already chooses the direction of the step, found surgery: pcgrad",
        ),
        (
            "famo",
            {"tasks": {"s": {**SCORES, "loss": "cosent"}, "t": SCORES}},
            "loss: cosent of s is 0 in some",
        ),
        ("dwa", {"tasks": {"s": {**SCORES, "loss_weight": 2.0}, "t": SCORES}}, "leave out loss_weight of s"),
    ],
)
def test_balancing_that_makes_no_sense_is_refused(method: str, beside: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        Settings.model_validate({"balancing": method, **beside})
    assert caught.value.errors()[0]["loc"] == ("balancing",)


def test_only_the_mix_that_has_a_temperature_takes_one() -> None:
    with pytest.raises(ValidationError, match="only mix: temperature uses it, found mix: annealed") as caught:
        Settings.model_validate({"mix": "annealed", "mix_temperature": 3.0})
    assert caught.value.errors()[0]["loc"] == ("mix_temperature",)
    plain, spelled = ({"mix": "temperature"}, {"mix": "temperature", "mix_temperature": 2.0})
    assert Settings.model_validate(plain) == Settings.model_validate(spelled)


@pytest.mark.parametrize("method", ["krum", "trimmed_mean"])
def test_some_surgery_needs_a_third_gradient(method: str) -> None:
    with pytest.raises(ValidationError, match="needs at least three tasks, found sentiment, paraphrase"):
        Settings.model_validate({"surgery": method, "tasks": ["sentiment", "paraphrase"]})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"surgery": "pcd"}, "set main_task to one of sentiment, paraphrase, similarity"),
        ({"surgery": "pcgrad", "main_task": "sentiment"}, "only surgery: pcd uses it, found surgery: pcgrad"),
        (
            {"surgery": "pcd", "main_task": "nli"},
            "'nli' is not one of the tasks to train: sentiment, paraphrase, similarity",
        ),
    ],
)
def test_pcd_and_its_main_task_go_together(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate(settings)


def test_defaults_say_nothing_in_a_cells_identity() -> None:
    assert (
        Settings.model_validate({"dense_size": 256, "reshuffle": True}).model_dump(exclude_defaults=True)
        == {}
    )


def test_tasks_keep_one_order() -> None:
    settings = Settings.model_validate({"tasks": ("similarity", "sentiment")})
    assert settings.tasks == ("sentiment", "similarity")


def test_the_encoders_rate_fits_its_start() -> None:
    assert Settings().encoder_lr == 1e-3
    assert Settings.model_validate({"encoder": "google-bert/bert-base-uncased"}).encoder_lr == 2e-5
    assert Settings.model_validate({"lr": {"encoder": 3e-5}}).encoder_lr == 3e-5


def test_joint_training_is_one_part() -> None:
    settings = Settings.model_validate({"training": "joint"})
    assert parts(settings) == {"all": settings}


def test_a_part_forgets_what_belongs_to_other_tasks() -> None:
    settings = Settings.model_validate(
        {
            "training": "separate",
            "similarity_head": "siamese",
            "paraphrase_head": "difference",
            "mix": "temperature",
            "mix_temperature": 5.0,
            "batch_size": {"sentiment": 2, "paraphrase": 32},
            "l2": 0.01,
            "data": {"paraphrase": {"limit": {"train": 9}}},
        }
    )
    found = {name: part.model_dump(exclude_defaults=True) for name, part in parts(settings).items()}
    common = {"training": "separate", "l2": 0.01}
    assert found["sentiment"] == common | {"tasks": ("sentiment",), "batch_size": {"sentiment": 2}}
    assert found["paraphrase"] == common | {
        "tasks": ("paraphrase",),
        "batch_size": {"paraphrase": 32},
        "paraphrase_head": "difference",
        "data": {"paraphrase": {"limit": {"train": 9}}},
    }
    assert found["similarity"] == common | {"tasks": ("similarity",), "similarity_head": "siamese"}


def test_the_papers_grid_has_936_different_parts() -> None:
    batches: tuple[dict[str, int], ...] = ({"sentiment": 2, "paraphrase": 32, "similarity": 2}, {})
    base = {"encoder": "google-bert/bert-base-uncased", "epochs": 10, "precision": "bf16"}
    naive, unique = 0, set()
    for dense, sim, para, training, reshuffle, batch, l2 in itertools.product(
        (128, 256, 768),
        ("concat", "siamese"),
        ("concat", "difference"),
        (("separate", "none"), ("joint", "none"), ("joint", "pcgrad")),
        (False, True),
        batches,
        (0.0, 0.01),
    ):
        own = {"dense_size": dense, "similarity_head": sim, "paraphrase_head": para, "reshuffle": reshuffle}
        how = {"training": training[0], "surgery": training[1], "batch_size": batch, "l2": l2}
        found = parts(Settings.model_validate({**base, **own, **how}))
        naive += len(found)
        unique |= {part.model_dump_json() for part in found.values()}
    assert (naive * 3, len(unique) * 3) == (1440, 936)


def test_combine_adds_the_mean_of_all_three() -> None:
    metrics = {"sentiment": {"dev/sentiment": 0.5}, "paraphrase": {"dev/paraphrase": 0.8}}
    assert "dev/mean" not in combine(Settings(), metrics)
    both = combine(Settings(), metrics | {"similarity": {"dev/similarity": 0.4}})
    assert both["dev/mean"] == pytest.approx((0.5 + 0.8 + 0.7) / 3)


def test_combine_keeps_the_last_epoch_apart() -> None:
    tasks = ("sentiment", "paraphrase", "similarity")
    metrics = {task: {f"dev/{task}": 1.0, f"dev/{task}@last": 0.0} for task in tasks}
    found = combine(Settings(), metrics)
    assert found["dev/mean"] == 1.0
    assert found["dev/mean@last"] == pytest.approx(0.5 / 3)


def test_smoke_keeps_the_factors_and_shrinks_the_rest() -> None:
    settings = Settings.model_validate(
        {"encoder": "some/model", "surgery": "pcgrad", "similarity_head": "siamese", "epochs": 10}
    )
    shrunk = smoke(settings)
    assert (shrunk.surgery, shrunk.model_dump()["similarity_head"]) == ("pcgrad", "siamese")
    assert (shrunk.encoder, shrunk.max_steps) == ("tiny", 3)
    assert all(source.hub is None and source.limit["train"] < 100 for _, source in shrunk.data)
    assert Settings.model_validate(shrunk.model_dump()) == shrunk
