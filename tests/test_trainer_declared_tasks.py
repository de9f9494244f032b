"""Tasks that a study declares: every kind, head and metric trains, resumes, is scored on test, and keeps its predictions."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared_tasks import LABELS, ROWS, write_files, write_table
from pydantic import ValidationError
from scipy import stats
from sklearn import metrics as sklearn_metrics
from trainer_context import Notebook
from transformers import AutoTokenizer, BertConfig, BertModel

from ablate import trainer
from ablate.contract import Stopped
from ablate.trainer import Settings, combine, parts, smoke, train
from ablate.trainer.data.corpus import generate
from ablate.trainer.data.reading import reading_key
from ablate.trainer.data.tokens import load_tokens
from ablate.trainer.declared_tasks import DeclaredTask
from ablate.trainer.encoders.padded import PaddedEncoder
from ablate.trainer.tasks.declared_kinds import KINDS
from ablate.trainer.tasks.declared_presets import PRESETS
from ablate.trainer.tasks.registry import TASKS
from ablate.trainer.training.measuring import measure

EVERY = [(kind, *both) for kind, of in KINDS.items() for both in product(of.heads, of.metrics)]
REFERENCES: dict[str, Callable[..., float]] = {
    "accuracy": lambda gold, found: float(sklearn_metrics.accuracy_score(gold, found)),
    "macro_f1": lambda gold, found: float(
        sklearn_metrics.f1_score(gold, found, average="macro", zero_division=0)
    ),
    "mcc": lambda gold, found: float(sklearn_metrics.matthews_corrcoef(gold, found)),
    "pearson": lambda gold, found: float(stats.pearsonr(gold, found)[0]),
    "spearman": lambda gold, found: float(stats.spearmanr(gold, found)[0]),
    "r2": lambda gold, found: float(sklearn_metrics.r2_score(gold, found)),
}
QUICK: dict[str, Any] = {"max_steps": 3, "max_length": 32, "dense_size": 8, "pooling": "mean"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A task's files of every kind."""
    folder = tmp_path_factory.mktemp("files")
    return {kind: write_files(folder, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose trials share tokens."""
    return tmp_path_factory.mktemp("declared")


@pytest.fixture
def four(files: dict[str, str]) -> dict[str, Any]:
    """Four tasks, one of them with both sentences in one sequence."""
    return {
        "topic": {"kind": "classification", "labels": 3, "files": files["classification"], "batch_size": 4},
        "nli": {
            "kind": "pair_classification",
            "labels": LABELS["pair_classification"]["labels"],
            "head": "cross",
            "files": files["pair_classification"],
            "batch_size": 6,
        },
        "scores": {"kind": "pair_regression", "range": [0, 1], "head": "siamese", "metric": "spearman"}
        | {"files": files["pair_regression"], "batch_size": 5},
        "slots": {"kind": "multilabel", **LABELS["multilabel"], "files": files["multilabel"]},
    }


@pytest.mark.parametrize(("kind", "head", "metric"), EVERY)
def test_every_kind_head_and_metric_trains_from_a_file(
    kind: str, head: str, metric: str, files: dict[str, str], shared: Path
) -> None:
    declared = {"kind": kind, "head": head, "metric": metric, "files": files[kind], "batch_size": 4}
    settings = Settings.model_validate({"tasks": {"t": {**declared, **LABELS[kind]}}, **QUICK})
    context = Notebook(shared / f"{kind} {head} {metric}")
    found = train(settings, context)
    ids, predicted, gold = context.predicted["dev", "t"]
    assert len(ids) == ROWS["dev"] * (3 if kind == "multilabel" else 1)
    assert {*found} <= {"dev/t", *(f"dev/t.{other}" for other in KINDS[kind].metrics)}
    columns = [np.reshape(numbers, (ROWS["dev"], -1)).squeeze() for numbers in (gold, predicted)]
    if (kind, metric) == ("multilabel", "accuracy"):
        columns = [numbers.ravel() for numbers in columns]
    assert found["dev/t"] == pytest.approx(REFERENCES[metric](*columns), abs=1e-9)
    assert trainer.test(settings, context).keys() == {name.replace("dev", "test") for name in found}


def test_a_killed_training_of_declared_tasks_ends_in_the_same_bits(
    four: dict[str, Any], shared: Path
) -> None:
    settings = Settings.model_validate(
        {"tasks": four, "surgery": "pcgrad", "select": "best", "eval_every": 2} | QUICK | {"max_steps": 6}
    )
    whole = Notebook(shared / "whole")
    expected = train(settings, whole)
    state = None
    for stop in (1, 3, 4):
        stopped = Notebook(shared / "stopped", stop_after=stop, state=state)
        with pytest.raises(Stopped):
            train(settings, stopped)
        state = stopped.state
    last = Notebook(shared / "stopped", state=state)
    assert train(settings, last) == expected
    assert (last.weights, last.predicted) == (whole.weights, whole.predicted)


@pytest.mark.parametrize(
    "how", [{"training": "separate"}, {"training": "sequential"}, {"freeze_encoder": True}]
)
def test_declared_tasks_train_in_every_way(how: dict[str, Any], four: dict[str, Any], shared: Path) -> None:
    settings = Settings.model_validate({"tasks": four, **QUICK, **how})
    found = train(settings, Notebook(shared / str(how)))
    assert {"dev/topic", "dev/nli", "dev/scores", "dev/slots", "dev/mean"} <= found.keys()


def test_tokens_of_a_pair_in_one_sequence_are_those_of_transformers(
    files: dict[str, str], tmp_path: Path
) -> None:
    declared = DeclaredTask(
        kind="pair_regression", range=(0, 1), head="cross", files=files["pair_regression"]
    )
    tokens = load_tokens({declared.task("t"): declared.source}, "tiny", 24, tmp_path / "cache")
    tokenizer = AutoTokenizer.from_pretrained(tokens.tokenizer_folder)
    split = tokens.tasks["t"]["dev"]
    drawn = generate(
        DeclaredTask(kind="pair_regression", range=(0, 1)).task("pair_regression"), "dev", split.n
    )
    expected = tokenizer(drawn.first, drawn.second, truncation=True, max_length=24)
    assert split.first.take(range(split.n))[0].tolist() == [*chain.from_iterable(expected["input_ids"])]
    assert split.first.take_types(range(split.n)).tolist() == [
        *chain.from_iterable(expected["token_type_ids"])
    ]
    assert split.second is None


def test_heads_that_read_other_tokens_do_not_share_embeddings(files: dict[str, str], shared: Path) -> None:
    """The texts are the same, so a key of texts alone would mix them up."""

    def scores(head: str) -> dict[str, float]:
        declared = {
            "kind": "pair_regression",
            "range": [0, 1],
            "head": head,
            "files": files["pair_regression"],
        }
        settings = Settings.model_validate({"tasks": {"t": declared}, "freeze_encoder": True, **QUICK})
        return dict(train(settings, Notebook(shared / f"frozen {head}")))

    assert scores("concat") != scores("cross") == scores("cross")


def test_several_labels_are_items_of_one_cluster(four: dict[str, Any], shared: Path) -> None:
    context = Notebook(shared / "clusters")
    train(Settings.model_validate({"tasks": {"slots": four["slots"]}, **QUICK}), context)
    ids, _, _ = context.predicted["dev", "slots"]
    clusters = context.clusters["dev", "slots"]
    first = ids[0].rpartition("/")[0]
    assert ids[:3] == [f"{first}/who", f"{first}/did", f"{first}/what"]
    assert clusters is not None
    assert len(set(clusters[:3])) == 1 < len(set(clusters))


def test_the_papers_tasks_declared_train_to_the_same_bits(shared: Path) -> None:
    for task, (split, rows) in product(TASKS.values(), ROWS.items()):
        write_table(shared / f"{task.name}-{split}.csv", task, generate(task, split, rows))
    files = {name: {"files": str(shared / f"{name}-{{split}}.csv")} for name in TASKS}
    listed: dict[str, Any] = {
        "data": files,
        "batch_size": dict.fromkeys(TASKS, 4),
        "similarity_head": "siamese",
    }
    kinds: dict[str, dict[str, Any]] = {
        "similarity": {"kind": "pair_regression", "range": [0, 5], "head": "siamese"},
        "paraphrase": {"kind": "pair_classification", "labels": 2},
        "sentiment": {"kind": "classification", "labels": 5},
    }
    declared = {"tasks": {name: {**kind, **files[name], "batch_size": 4} for name, kind in kinds.items()}}
    weights = []
    for name, settings in {"listed": listed, "declared": declared}.items():
        context = Notebook(shared / name)
        train(Settings.model_validate({**settings, **QUICK}), context)
        weights.append(context.weights)
    assert weights[0] == weights[1]


# Settings --------------------------------------------------------------------------------------------------------


def declare(**tasks: dict[str, Any]) -> Settings:
    return Settings.model_validate({"tasks": tasks})


CLASSES: dict[str, Any] = {"kind": "classification", "labels": 2}
NUMBERS: dict[str, Any] = {"kind": "regression", "range": [0, 5]}


def test_the_mean_is_weighted_and_on_a_scale_from_0_to_1() -> None:
    settings = declare(
        a={**CLASSES, "weight": 2.0},
        b=NUMBERS,
        c={**NUMBERS, "metric": "spearman"},
        d={**CLASSES, "metric": "mcc"},
        e={**NUMBERS, "metric": "r2"},
        f={**CLASSES, "metric": "macro_f1", "weight": 0.0},
    )
    found = {"dev/a": 0.9, "dev/b": 0.0, "dev/c": -1.0, "dev/d": 1.0, "dev/e": -7.0, "dev/f": 0.3}
    mean = combine(settings, {"all": found})["dev/mean"]
    assert mean == pytest.approx((2 * 0.9 + 0.5 + 0.0 + 1.0 + 0.0) / 6)


def test_a_part_has_its_task_alone_without_its_weight() -> None:
    settings = Settings.model_validate(
        {
            "training": "separate",
            "tasks": {"a": {**CLASSES, "weight": 3.0, "loss_weight": 2.0}, "b": NUMBERS},
            "mix": "shortest",
        }
    )
    alone = Settings.model_validate({"training": "separate", "tasks": {"a": CLASSES}})
    assert parts(settings)["a"] == alone


def test_the_order_in_the_file_does_not_matter() -> None:
    tasks = {"b": CLASSES, "sentiment": {**CLASSES, "labels": 5}, "a": NUMBERS}
    found = declare(**tasks)
    assert [task.name for task in found.trained] == ["sentiment", "a", "b"]
    assert found == declare(**dict(reversed(tasks.items())))


def test_a_preset_is_an_abbreviation() -> None:
    written_out = {
        "kind": "pair_classification",
        "labels": ["entailment", "not_entailment"],
        "hub": "nyu-mll/glue",
        "config": "rte",
    }
    assert declare(a={"preset": "glue/rte"}) == declare(a=written_out)


def test_a_default_written_down_says_nothing_in_a_cells_identity() -> None:
    of_classes = {
        "head": "sentence",
        "metric": "accuracy",
        "batch_size": 16,
        "weight": 1.0,
        "label_smoothing": 0.0,
    }
    of_pairs = {"kind": "pair_regression", "range": [0, 5], "head": "siamese"}
    plain = declare(a={**CLASSES, "loss": "cross_entropy"}, b=of_pairs, c={**of_pairs, "loss": "mnrl"})
    spelled = declare(
        a={**CLASSES, **of_classes},
        b={**of_pairs, "loss": "mse"},
        c={**of_pairs, "loss": "mnrl", "scale": 20.0, "positive_from": 0.8},
    )
    assert plain.model_dump(exclude_defaults=True) == spelled.model_dump(exclude_defaults=True)


def test_keys_beside_a_preset_override_it() -> None:
    found = DeclaredTask.model_validate(
        {"preset": "glue/cola", "metric": "macro_f1", "files": "x-{split}.tsv"}
    )
    assert (found.metric, found.files, found.hub, found.config) == ("macro_f1", "x-{split}.tsv", None, None)


@pytest.mark.parametrize("preset", PRESETS)
def test_smoke_trains_every_preset_on_the_built_in_corpus(preset: str) -> None:
    shrunk = smoke(declare(a={"preset": preset, "batch_size": 32}))
    (source,) = shrunk.sources.values()
    assert (source.hub, source.files, shrunk.batch_sizes) == (None, None, {"a": 4})
    assert Settings.model_validate(shrunk.model_dump(exclude_unset=True)) == shrunk
    (task,) = shrunk.trained
    assert len(generate(task, "train", 20)) == 20


def test_smoke_of_declared_tasks_trains(four: dict[str, Any], tmp_path: Path) -> None:
    found = train(smoke(Settings.model_validate({"tasks": four})), Notebook(tmp_path / "smoke"))
    assert {"dev/topic", "dev/nli", "dev/scores", "dev/slots", "dev/mean"} <= found.keys()


def test_the_time_of_declared_tasks_is_measured(four: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings.model_validate({"tasks": four, **QUICK, "freeze_encoder": True})
    assert measure({"all": settings}, Notebook(tmp_path / "measured"))["all"] > 0


def test_tokens_are_not_shared_between_other_readings_of_the_same_file() -> None:
    one = DeclaredTask(kind="pair_classification", labels=("a", "b")).task("t")
    joined = DeclaredTask(kind="pair_classification", labels=("a", "b"), head="cross").task("t")
    swapped = DeclaredTask(kind="pair_classification", labels=("b", "a")).task("t")
    assert len({reading_key(task) for task in (one, joined, swapped)}) == 3
    assert {reading_key(task) for task in TASKS.values()} == {""}
    assert reading_key(replace(TASKS["sentiment"])) != ""


def test_padded_encoders_tell_the_sentences_of_a_pair_apart() -> None:
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = BertModel(config, add_pooling_layer=False).train(False)
    types = torch.tensor([0, 0, 1, 0, 1])
    found = PaddedEncoder(model)(torch.arange(1, 6), np.array([3, 2], np.int32), "cls", types)
    for row, tokens, of in ((0, [[1, 2, 3]], [[0, 0, 1]]), (1, [[4, 5]], [[0, 1]])):
        expected = model(torch.tensor(tokens), token_type_ids=torch.tensor(of)).last_hidden_state[0, 0]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "moved", [{"data": {"a": {}}}, {"batch_size": {"a": 2}}, {"paraphrase_head": "concat"}], ids=str
)
def test_keys_of_all_tasks_say_where_they_go_now(moved: dict[str, Any]) -> None:
    with pytest.raises(
        ValidationError, match="is set in each task when tasks are declared; write tasks"
    ) as error:
        Settings.model_validate({"tasks": {"a": CLASSES}, **moved})
    assert error.value.errors()[0]["loc"] == tuple(moved)
