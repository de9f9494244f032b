"""`--set key=value`: settings from the command line."""

from typing import Any

import pytest
from fixture_types import Json

from ablate.errors import BadInput
from ablate.spec.reading import parse_study

STUDY = """
study: s
trainer: t
settings: {epochs: 3, data: {sentiment: {hub: a/b, config: c}}}
factors:
  lr: [0.1, 1.0]
  batches: {levels: {small: {batch_size.a: 1}, large: {batch_size.a: 9}}}
baseline: {lr: 0.1, batches: small}
design: full
seeds: [1]
metric: {name: m}
"""


def settings_with(*overrides: str) -> Json:
    return parse_study(STUDY, overrides=overrides).settings


def faults_with(*overrides: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse_study(STUDY, overrides=overrides)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("1", 1),
        ("1e-5", 1e-5),
        ("true", True),
        ("off", "off"),
        ('"1"', "1"),
        ("", None),
        ("[1, 2]", [1, 2]),
        ("{hub: x, limit: {train: 5}}", {"hub": "x", "limit": {"train": 5}}),
        ("/data/{split}.csv", "/data/{split}.csv"),
        ("a: b # c", "a: b # c"),
        ("x=y", "x=y"),
        ("!!str 5", "!!str 5"),
    ],
)
def test_a_value_is_a_scalar_or_in_brackets(typed: str, value: Any) -> None:
    assert settings_with(f"new={typed}")["new"] == value


def test_a_dotted_key_changes_one_value_inside() -> None:
    assert settings_with("data.sentiment.hub=x")["data"] == {"sentiment": {"hub": "x", "config": "c"}}


def test_a_mapping_replaces_what_was_there() -> None:
    assert settings_with("data.sentiment={files: f}")["data"] == {"sentiment": {"files": "f"}}


def test_the_last_of_two_wins() -> None:
    assert settings_with("epochs=1", "epochs=2")["epochs"] == 2


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("lr=0.5", "factor lr varies this"),
        ("lr.encoder=0.5", "factor lr varies this"),
        ("batch_size={a: 3}", "factor batches (it sets batch_size.a) varies this"),
        ("epochs", "no '='"),
        ("=3", "is not the address of a setting"),
        ("a..b=3", "is not the address of a setting"),
        ("epochs.x=3", "a part of epochs.x is a value"),
        ("epochs=.nan", "not a finite number"),
        ("epochs=[1, 2", "not YAML"),
        ("epochs=[*a]", "alias *a is not allowed"),
    ],
)
def test_a_bad_override_is_one_fault_that_repeats_it(override: str, fault: str) -> None:
    (found,) = faults_with(override)
    assert found.startswith(f"--set {override}: ")
    assert fault in found


def test_faults_of_file_and_command_line_are_told_together() -> None:
    with pytest.raises(BadInput) as caught:
        parse_study(STUDY.replace("seeds: [1]", "seeds: []"), overrides=["lr=3"])
    assert [fault.split(": ")[0] for fault in caught.value.faults] == ["study:10:8", "--set lr=3"]
