"""What our trainer says that parts share: up to there every bit of the training is the same, and continuing from there is the
same as training from the start."""

import contextlib
import copy
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from declared_tasks import LABELS, write_files
from fixture_types import RunHere
from pydantic import ValidationError
from small_encoders import save_encoder
from test_runner_checkpoint import same
from torch import Tensor
from trainer_context import Notebook, small

from ablate.spec.addresses import replace
from ablate.store.places import place_of
from ablate.store.reading import read_results
from ablate.trainer import Settings, parts, prefixes, train
from ablate.trainer.declared_tasks import DeclaredTask
from ablate.trainer.settings import Mix
from ablate.trainer.training.mixing import Mixture
from ablate.trainer.training.optimizing import Optimizer

FIRST, ONE, TWO = "first pass", "stage 1", "stage 2"

# In 8 steps every task begins a second epoch: the first has 7, 6 and 5 steps; of the declared tasks, 6 and 4.
STEPS: dict[str, Any] = {"max_steps": 8, "eval_every": 3}
TASKS: dict[str, dict[str, Any]] = {
    "first": {"kind": "classification", "labels": 3, "files": "classification-{split}.csv", "batch_size": 3},
    "later": {
        **{
            "kind": "pair_regression",
            "range": [0, 1],
            "files": "pair_regression-{split}.csv",
            "batch_size": 4,
        },
        **{"head": "siamese", "loss": "mnrl"},
    },
}
PAPER = {**small().model_dump(exclude_unset=True), **STEPS}
DECLARED = {**STEPS, "max_length": 12, "dense_size": 8, "tasks": TASKS, "training": "sequential"}
BASES: dict[str, dict[str, Any]] = {
    "joint": PAPER,
    "led": {**PAPER, "surgery": "pcd", "main_task": "sentiment"},
    "drawn": {**PAPER, "mix": "temperature", "select": "best"},
    "sequential": {**PAPER, "training": "sequential", "select": "best", "patience": 9},
    "declared": {**DECLARED, "encoder": "encoder"},
    "declared, tiny": DECLARED,
}

# Another value for every setting, and for every setting of a declared task.
OTHER: dict[str, Any] = {
    **{"encoder": "other", "tasks": ["sentiment", "paraphrase"], "data.sentiment.limit.train": 18},
    **{"data.paraphrase.limit.train": 18, "data.similarity.limit.train": 18, "max_length": 10},
    **{"pooling": "mean", "dense_size": 4, "dropout": 0.3, "r_drop": 0.5, "freeze_encoder": True},
    **{"lora.rank": 2, "training": "joint", "mix": "alternate", "mix_temperature": 3.0, "surgery": "pcgrad"},
    "main_task": "similarity",
    **{"balancing": "uncertainty", "reshuffle": False, "batch_size.sentiment": 2, "batch_size.paraphrase": 2},
    **{"batch_size.similarity": 2, "micro_batch": 2, "epochs": 2, "max_steps": 7, "lr.encoder": 0.01},
    **{"lr.heads": 0.01, "lr.layer_decay": 0.5, "schedule": "constant", "warmup": 0.5, "l2": 0.1},
    **{"l2_kind": "coupled", "clip": 0.01, "precision": "bf16", "eval_every": 2, "patience": 1},
    **{"select": "best", "keep": "none", "paraphrase_head": "difference", "similarity_head": "siamese"},
}
OF_ANY_TASK: dict[str, Any] = {
    **{
        "files": "more-{split}.csv",
        "columns": {"id": "number"},
        "splits": {"dev": "check"},
        "text": "course",
    },
    **{"limit": {"train": 9}, "blank_labels": "drop", "quotes": "none", "batch_size": 2, "weight": 2.0},
    **{"loss_weight": 2.0},
}
OF_A_TASK: dict[str, dict[str, Any]] = {
    "first": {"labels": 4, "label_smoothing": 0.1, "class_weights": "balanced", "metric": "mcc"},
    "later": {"range": [0, 2], "loss": "cosent", "scale": 10.0, "positive_from": 0.5, "metric": "spearman"},
}
# Another source, kind or head, which other files, labels and losses stand for.
ALIKE = {"hub", "config", "revision", "kind", "preset", "head"}
CHANGES = OTHER | {
    f"tasks.{task}.{key}": value
    for task, of in OF_A_TASK.items()
    for key, value in (OF_ANY_TASK | of).items()
}

# What two parts share that differ in one setting; nothing, where it is not listed.
SHARED: dict[str, dict[str, tuple[str, ...]]] = {
    "joint": dict.fromkeys(["reshuffle", "keep"], (FIRST,)),
    "led": dict.fromkeys(["reshuffle", "keep"], (FIRST,)),
    "drawn": dict.fromkeys(["reshuffle", "keep"], (FIRST,)),
    "sequential": {
        "reshuffle": (FIRST,),
        **dict.fromkeys(["keep", "mix"], (FIRST, ONE, TWO)),
        **dict.fromkeys(["tasks", "paraphrase_head", "batch_size.paraphrase"], (FIRST, ONE)),
        "data.paraphrase.limit.train": (FIRST, ONE),
        **dict.fromkeys(["similarity_head", "batch_size.similarity"], (FIRST, ONE, TWO)),
        "data.similarity.limit.train": (FIRST, ONE, TWO),
    },
    "declared": {
        "reshuffle": (FIRST,),
        **dict.fromkeys(["keep", "select", "mix"], (FIRST, ONE)),
        **dict.fromkeys(["tasks.first.weight", "tasks.first.loss_weight"], (FIRST, ONE)),
        **dict.fromkeys([change for change in CHANGES if change.startswith("tasks.later")], (FIRST, ONE)),
    },
    "declared, tiny": {"reshuffle": (FIRST,), **dict.fromkeys(["keep", "select"], (FIRST, ONE))},
}


def settings_of(base: str, folder: Path = Path(), **changes: Any) -> Settings:
    """Return the settings of a base, some of them changed, by address; its files are in `folder`."""
    nested = copy.deepcopy(BASES[base])
    for address, value in changes.items():
        replace(nested, address, value)
    if not base.startswith("declared"):
        return Settings.model_validate(nested)
    files = {name: task | {"files": str(folder / task["files"])} for name, task in nested["tasks"].items()}
    encoder = {"encoder": str(folder / nested["encoder"])} if "encoder" in nested else {}
    return Settings.model_validate(nested | encoder | {"tasks": files})


def shared(one: Settings, other: Settings) -> tuple[str, ...]:
    """Return the prefixes that two parts have in common, first to last."""
    ends, others = prefixes(one), prefixes(other)
    return tuple(name for name, deciding in ends.items() if others.get(name) == deciding)


def test_every_setting_counts_except_those_that_are_named() -> None:
    found: dict[str, dict[str, tuple[str, ...]]] = {base: {} for base in BASES}
    valid = set()
    for base, (address, value) in itertools.product(BASES, CHANGES.items()):
        # A list of tasks, or one of the declared tasks.
        if address.startswith("tasks") and ("." in address) != base.startswith("declared"):
            continue
        with contextlib.suppress(ValidationError):
            before, changed = settings_of(base), settings_of(base, **{address: value})
            if changed != before:
                valid.add(address)
                found[base] |= {address: names} if (names := shared(before, changed)) else {}
    assert found == SHARED
    assert valid == CHANGES.keys()


def test_no_setting_is_left_out_of_these_tests() -> None:
    assert {address.partition(".")[0] for address in OTHER} == set(Settings.model_fields)
    of_a_task = {address.rpartition(".")[2] for address in CHANGES if address.startswith("tasks.")}
    assert of_a_task | ALIKE == set(DeclaredTask.model_fields)


def part(training: str, **changes: Any) -> Settings:
    """Return the part that trains sentiment, alone or first."""
    of_trial = parts(settings_of("sequential", training=training, **changes))
    return of_trial.get("sentiment") or of_trial["all"]


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        (part("separate"), part("sequential"), ()),
        (part("separate", select="last"), part("sequential"), (FIRST, ONE)),
        (part("separate", select="last"), part("joint", tasks=["sentiment"], select="last"), (FIRST, ONE)),
        (part("separate", select="last", reshuffle=False), part("sequential"), (FIRST,)),
        (part("joint", patience=0), part("sequential", patience=0), ()),
    ],
)
def test_one_task_alone_trains_like_the_first_of_several(
    one: Settings, other: Settings, names: tuple[str, ...]
) -> None:
    assert shared(one, other) == names


@pytest.mark.parametrize("mix", [mix for mix in get_args(Mix)])
def test_until_the_first_pass_ends_the_order_does_not_depend_on_reshuffle(mix: str) -> None:
    mixtures = [
        Mixture({"a": 9, "b": 40}, {"a": 2, "b": 3}, mix, reshuffle, seed=3, temperature=9.0, epochs=3)
        for reshuffle in (False, True)
    ]
    steps = [[repr(mixture.step(step)) for step in range(60)] for mixture in mixtures]
    (end,) = {mixture.first_pass for mixture in mixtures}
    assert steps[0][:end] == steps[1][:end]
    assert steps[0][end] != steps[1][end]


# Training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Settings], tuple[Notebook, dict[str, float]]]:
    """Train settings from the start, once; return the context and the metrics."""
    folder = tmp_path_factory.mktemp("trained")
    done: dict[str, tuple[Notebook, dict[str, float]]] = {}

    def run(settings: Settings) -> tuple[Notebook, dict[str, float]]:
        key = settings.model_dump_json()
        if key not in done:
            context = Notebook(folder / str(len(done)))
            done[key] = context, dict(train(settings, context))
        return done[key]

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the declared tasks, others for the later one, and an encoder."""
    folder = tmp_path_factory.mktemp("files")
    for kind in ("classification", "pair_regression"):
        write_files(folder, kind, {"labels": 3} if kind == "classification" else LABELS[kind])
    for split in ("train", "dev"):
        rows = (folder / f"pair_regression-{split}.csv").read_text().splitlines()
        (folder / f"more-{split}.csv").write_text("\n".join([rows[0], *rows[:4:-1]]))
    save_encoder(folder / "encoder", "bert")
    return folder


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        *((base, {"reshuffle": False}) for base in ("joint", "drawn", "sequential", "declared, tiny")),
        *(
            ("sequential", {address: CHANGES[address]})
            for address in (
                *("keep", "mix", "tasks", "paraphrase_head", "similarity_head"),
                *("batch_size.paraphrase", "data.paraphrase.limit.train"),
            )
        ),
        ("sequential", {"tasks": ["sentiment"], "training": "separate", "select": "last"}),
        ("declared", {"select": "best"}),
        *(
            ("declared", {f"tasks.later.{key}": CHANGES[f"tasks.later.{key}"]})
            for key in ("files", "loss", "limit", "batch_size", "metric", "weight")
        ),
        ("declared", {"tasks.first.weight": 2.0, "tasks.first.loss_weight": 2.0}),
    ],
    ids=lambda it: it if isinstance(it, str) else ", ".join(it),
)
def test_what_is_shared_is_equal_to_the_bit_and_so_is_all_that_follows(
    base: str, changes: dict[str, Any], trained: Any, files: Path, tmp_path: Path
) -> None:
    one, other = settings_of(base, files), settings_of(base, files, **changes)
    (first, _), (second, metrics) = trained(one), trained(other)
    names = shared(one, other)
    assert names
    for name in names:
        assert same(list(first.ends[name]), list(second.ends[name])), name
    _, state, points = first.ends[names[-1]]
    second_half = Notebook(tmp_path / "continued", state=state)
    assert train(other, second_half) == metrics
    assert second_half.weights == second.weights
    assert second_half.predicted == second.predicted
    assert second_half.facts == second.facts
    assert points + second_half.points[1:] == second.points


def test_a_stage_that_ends_early_is_not_shared(trained: Any) -> None:
    bold: dict[str, Any] = {"patience": 1, "eval_every": 1, "lr": {"encoder": 0.1, "heads": 0.1}}
    context, _ = trained(settings_of("sequential", **bold))
    assert context.facts["stopped_early"]
    assert context.ends.keys() < prefixes(settings_of("sequential", **bold)).keys()


# Whole studies ----------------------------------------------------------------------------------------------------

STUDY = """\
study: begins_alike
trainer: ablate.trainer
settings:
  data: {{sentiment: {{limit: {limit}}}, paraphrase: {{limit: {limit}}}, similarity: {{limit: {limit}}}}}
  batch_size: {{sentiment: 3, paraphrase: 4, similarity: 5}}
  dense_size: 8
  max_length: 24
  max_steps: 8
{more}
design: full
seeds: [3]
metric: {{name: dev/similarity}}
"""
LIMIT = "{train: 21, dev: 12}"
# A factor, and how many steps its two parts take together if what they share is computed once.
FACTORS = {
    "of the last task": (
        "  training: sequential\nfactors: {similarity_head: [concat, siamese]}\nbaseline: {similarity_head: concat}",
        24 + 8,
    ),
    "reshuffle": ("factors: {reshuffle: [false, true]}\nbaseline: {reshuffle: false}", 8 + 3),
    "training": (
        "factors: {training: [separate, sequential]}\nbaseline: {training: separate}",
        3 * 8 + 2 * 8,
    ),
}


@pytest.mark.parametrize("factor", FACTORS)
def test_a_study_computes_what_its_parts_share_once(
    factor: str, run_here: RunHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, expected = FACTORS[factor]
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(limit=LIMIT, more=more))
    computed = []
    step = Optimizer.step

    def counted(self: Optimizer, number: int, taking_part: Sequence[str]) -> Tensor | None:
        computed.append(number)
        return step(self, number, taking_part)

    monkeypatch.setattr(Optimizer, "step", counted)
    document = run_here(study)
    assert (document["failed"], document["parts"]["continued"]) == (0, 1)
    assert len(computed) == expected
    found = read_results(place_of("begins_alike", tmp_path / "runs"))
    points: dict[str, list[tuple[int, str, float]]] = {}
    for point in found.points({part for part, _ in found.parts}):
        points.setdefault(point.part, []).append(point[2:])
    for cell in found.cells:
        for name, one in cell.parts.items():
            alone = Notebook(tmp_path / cell.hash / name, seed=3)
            metrics = train(Settings.model_validate(one.settings), alone)
            part = found.parts[one.hash, 3]
            assert part.metrics == metrics
            assert (part.folder / "weights.json").read_text() == alone.weights
            assert part.facts["examples"] == alone.facts["examples"]
            told = [(at, curve, value) for at, values in alone.points for curve, value in values.items()]
            assert sorted(points[one.hash]) == sorted(told)
