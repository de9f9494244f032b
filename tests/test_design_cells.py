"""From a study to validated, hashed cells and their parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from design_examples import Rates, Settings, design_of, levels, study, toy_trainer
from pydantic import BaseModel, ConfigDict, computed_field, field_validator, model_validator

from ablate.contract import Trainer, load_trainer
from ablate.design.cell_settings import defaults_of, settings_hash
from ablate.design.cells import build_design, part_counts
from ablate.design.model import Design
from ablate.errors import BadInput
from ablate.spec.model import StudySpec
from ablate.spec.reading import parse_study, read_study

STUDIES = Path(__file__).parent.parent / "studies"


def faults_of(spec: StudySpec, trainer: Trainer | None = None) -> list[str]:
    with pytest.raises(BadInput) as caught:
        build_design(spec, trainer or toy_trainer())
    return list(caught.value.faults)


@pytest.fixture(scope="module")
def full_grid() -> Design:
    spec = read_study(STUDIES / "full_grid.yaml")
    return build_design(spec, load_trainer(spec.trainer, spec.folder))


def test_full_grid_has_384_raw_cells_and_288_valid_ones(full_grid: Design) -> None:
    assert (full_grid.raw_cells, len(full_grid.cells)) == (384, 288)


def test_full_grid_trains_936_parts_instead_of_1440(full_grid: Design) -> None:
    assert part_counts(full_grid, seeds=3) == (1440, 936)


@pytest.mark.parametrize(
    ("name", "cells", "resolution"),
    [
        ("cs224n_minilm", 11, None),
        ("fractional", 16, None),
        ("own_tasks", 4, None),
        ("own_trainer", 12, None),
        ("paper", 11, None),
        ("quickstart", 6, None),
    ],
)
def test_shipped_studies_have_the_cells_that_their_headers_tell(
    name: str, cells: int, resolution: None
) -> None:
    path = STUDIES / f"{name}.yaml"
    spec = read_study(path)
    design = build_design(spec, load_trainer(spec.trainer, spec.folder))
    assert len(design.cells) == cells
    assert f"{cells} of" in path.read_text() or f"{cells} cells" in path.read_text()


def test_a_cell_holds_what_differs_from_the_trainers_defaults() -> None:
    design = design_of("{a: [0, 1], lr.heads: [0.1, 0.2]}", "{a: 0, lr.heads: 0.1}")
    assert [cell.settings for cell in design.cells] == [
        {},
        {"lr": {"heads": 0.2}},
        {"a": 1},
        {"a": 1, "lr": {"heads": 0.2}},
    ]


def test_a_cell_is_named_by_the_hash_of_its_settings() -> None:
    design = design_of("{a: [0, 1]}", "{a: 0}")
    assert [cell.hash for cell in design.cells] == [settings_hash({}), settings_hash({"a": 1})]


def test_a_hash_is_twelve_hex_digits_whatever_the_order_of_keys() -> None:
    assert settings_hash({"b": 1, "a": {"y": 2, "x": 3}}) == settings_hash({"a": {"x": 3, "y": 2}, "b": 1})
    assert settings_hash({}) == "44136fa355b3"  # sha256 of "{}"


def test_a_default_written_down_changes_no_hash() -> None:
    factors, baseline = "{a: [0, 1]}", "{a: 0}"
    spelled = design_of(factors, baseline, more="settings: {b: 0, lr: {heads: 0.1}}")
    assert [cell.hash for cell in spelled.cells] == [cell.hash for cell in design_of(factors, baseline).cells]


def test_a_setting_added_to_the_trainer_later_changes_no_hash() -> None:
    class Later(Settings):
        new: int = 7

    spec = study("{a: [0, 1]}", "{a: 0}")
    hashes = [[cell.hash for cell in build_design(spec, toy_trainer(one)).cells] for one in (Settings, Later)]
    assert hashes[0] == hashes[1]


def test_a_cells_settings_read_back_as_the_same_settings() -> None:
    design = design_of("{a: [3, 4], lr.encoder: [0.5, 0.1]}", "{a: 3, lr.encoder: 0.5}")
    assert Settings.model_validate(design.cells[0].settings) == Settings(a=3, lr=Rates(encoder=0.5))


class Adam(BaseModel):
    kind: Literal["adam"] = "adam"
    lr: float = 0.1


class SGD(BaseModel):
    kind: Literal["sgd"] = "sgd"
    lr: float = 0.1


class Tagged(BaseModel):
    optimizer: Adam | SGD = Adam()


OPTIMIZERS = (
    "{optimizer: {levels: {a: {optimizer.kind: adam, optimizer.lr: 0.2}, "
    "s: {optimizer.kind: sgd, optimizer.lr: 0.2}}}}"
)


@pytest.mark.parametrize("optional", [{}, {"parts": lambda settings: {"all": settings.model_copy()}}])
def test_members_of_a_union_that_differ_in_their_tag_alone_are_two_cells(
    optional: dict[str, Callable[[Any], Any]],
) -> None:
    design = build_design(study(OPTIMIZERS, "{optimizer: a}"), toy_trainer(Tagged, **optional))
    trained = [Tagged.model_validate(part.settings) for cell in design.cells for part in cell.parts.values()]
    assert trained == [Tagged(optimizer=Adam(lr=0.2)), Tagged(optimizer=SGD(lr=0.2))]


def test_a_part_keeps_the_tag_that_its_trainer_left_to_the_default() -> None:
    trainer = toy_trainer(Tagged, parts=lambda _: {"all": Tagged(optimizer=SGD(lr=0.2))})
    for cell in build_design(study(OPTIMIZERS, "{optimizer: a}"), trainer).cells:
        assert Tagged.model_validate(cell.parts["all"].settings).optimizer == SGD(lr=0.2)


def test_a_hash_knows_no_tag_where_none_is_needed() -> None:
    design = build_design(study(OPTIMIZERS, "{optimizer: a}"), toy_trainer(Tagged))
    assert design.cells[0].hash == settings_hash({"optimizer": {"lr": 0.2}})


def test_settings_that_a_validator_changes_again_when_read_back_are_refused() -> None:
    class Growing(Settings):
        @field_validator("b")
        @classmethod
        def _double(cls, b: int) -> int:
            return 2 * b

    (fault,) = faults_of(study("{b: [1, 2]}", "{b: 1}"), toy_trainer(Growing))
    assert "Growing(a=0, b=2" in fault
    assert "changes when its own dump" in fault


@pytest.mark.parametrize("optional", [{}, {"parts": lambda settings: {"all": settings}}])
def test_a_computed_field_is_no_setting(optional: dict[str, Callable[[Any], Any]]) -> None:
    class Sized(Settings):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def double(self) -> int:
            return 2 * self.a

    design = build_design(study("{a: [0, 1]}", "{a: 0}"), toy_trainer(Sized, **optional))
    assert [cell.settings for cell in design.cells] == [{}, {"a": 1}]
    assert "double" not in defaults_of(Sized())


def test_levels_that_set_the_same_collapse_with_a_warning() -> None:
    design = design_of("{a: {levels: {x: 1, y: 1, z: 2}}}", "{a: x}")
    assert levels(design.cells) == [{"a": "x"}, {"a": "z"}]
    assert design.warnings[0].startswith("1 combination has the same settings as another")


@pytest.mark.parametrize("order", ["x, y", "y, x"])
def test_of_combinations_with_equal_settings_the_one_nearest_to_the_baseline_names_the_cell(
    order: str,
) -> None:
    """Whatever the order in the file."""
    names = "{" + ", ".join(f"{name}: 1" for name in order.split(", ")) + ", z: 2}"
    design = design_of(f"{{a: {{levels: {names}}}}}", "{a: y}")
    assert {cell.levels["a"] for cell in design.cells} == {"y", "z"}
    assert [cell.also for cell in design.cells if cell.levels["a"] == "y"] == [({"a": "x"},)]


def test_a_trainer_without_parts_has_one_part_that_is_the_cell() -> None:
    cell = design_of("{a: [0, 1]}", "{a: 0}").cells[1]
    assert [(part.hash, part.settings) for part in cell.parts.values()] == [(cell.hash, cell.settings)]


def test_parts_that_are_equal_have_one_hash() -> None:
    def halves(settings: Any) -> dict[str, Any]:
        return {"left": settings.model_copy(update={"b": 0}), "right": {"b": settings.b}}

    spec = study("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}")
    design = build_design(spec, toy_trainer(parts=halves))
    assert part_counts(design, seeds=2) == (
        16,
        6,
    )  # left: a = 0, 1; right: b = 1; and b = 0, which is left's a = 0


def test_parts_that_the_trainers_own_settings_refuse_are_its_fault() -> None:
    spec = study("{a: [0, 1]}", "{a: 0}")
    (fault,) = faults_of(spec, toy_trainer(parts=lambda settings: {"p": {"nope": 1}}))
    assert fault.startswith("trainer: toy.parts: part 'p': nope: ")


@pytest.mark.parametrize(
    ("factors", "baseline", "more", "fault"),
    [
        (
            "{a: [0, 1]}",
            "{a: 0}",
            "settings: {lr: {encodr: 1}}",
            "study:8:17: settings.lr.encodr: the trainer has no setting 'lr.encodr'; did you mean 'encoder'?",
        ),
        (
            "{a: [0, 1], bb: [0, 1]}",
            "{a: 0, bb: 0}",
            "",
            "study:3:22: factors.bb: the trainer has no setting 'bb'; did you mean 'b'?",
        ),
        (
            "{mode: [one, mani]}",
            "{mode: one}",
            "",
            "study:3:23: factors.mode: input should be 'one' or 'many', found 'mani'",
        ),
        (
            "{x: {levels: {p: {a: 1, b: 2}, q: {a: 1, b: two}}}}",
            "{x: p}",
            "",
            "study:3:51: factors.x: input should be a valid integer, unable to parse string as an integer, found 'two'",
        ),
        (
            "{a: [0, 1]}",
            "{a: 0}",
            "settings: {lr: {heads: -1}}",
            "study:8:17: settings.lr.heads: input should be greater than 0, found -1",
        ),
    ],
)
def test_what_the_trainer_refuses_is_named_once_at_its_place(
    factors: str, baseline: str, more: str, fault: str
) -> None:
    assert faults_of(study(factors, baseline, more=more)) == [fault]


def test_an_unknown_setting_is_refused_by_a_trainer_that_would_ignore_it() -> None:
    assert Settings.model_config.get("extra") is None
    (fault,) = faults_of(study("{a: [0, 1]}", "{a: 0}", more="settings: {zeta: 1}"))
    assert "no setting 'zeta'" in fault


def test_a_trainer_that_allows_extra_settings_gets_them() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    design = build_design(study("{any: [0, 1]}", "{any: 0}"), toy_trainer(Open))
    assert [cell.settings for cell in design.cells] == [{"any": 0}, {"any": 1}]


def test_a_setting_that_the_trainer_needs_is_asked_for() -> None:
    class Needy(BaseModel):
        a: int = 0
        width: int

    (fault,) = faults_of(study("{a: [0, 1]}", "{a: 0}"), toy_trainer(Needy))
    assert "the trainer needs 'width'; add it to settings or make it a factor" in fault


def test_a_fault_of_a_whole_combination_is_told_once_with_what_would_do() -> None:
    class Picky(Settings):
        @model_validator(mode="after")
        def _sum(self) -> Self:
            if self.a + self.b > 1:
                raise ValueError("a and b together exceed 1.")
            return self

    spec = study("{a: [0, 1], b: [0, 1], c: [0, 1, 2]}", "{a: 0, b: 0, c: 0}")
    (fault,) = faults_of(spec, toy_trainer(Picky))
    assert fault.startswith("study:3:1: settings: a and b together exceed 1; ")
    assert fault.endswith("give it `only_when: {other: [levels]}`")


def test_faults_of_several_cells_are_all_told() -> None:
    faults = faults_of(study("{a: [x, 1], b: [y, 1]}", "{a: x, b: y}", "one_at_a_time"))
    assert [fault.split(": ")[0] for fault in faults] == ["study:3:15", "study:3:26"]


def test_an_override_at_fault_is_named_as_such() -> None:
    text = "study: s\ntrainer: t\nfactors: {a: [0, 1]}\nbaseline: {a: 0}\ndesign: full\nseeds: [1]\nmetric: {name: m}"
    (fault,) = faults_of(parse_study(text, overrides=["b=x"]))
    assert fault.startswith("--set: settings.b: ")
