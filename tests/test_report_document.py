"""report.json is a contract: keys may be added, none renamed or removed."""

from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from report_examples import (
    example,
    factor,
    fraction,
    report_document,
    searched,
    spec,
    with_trial,
    write_predictions,
)
from test_report_looks import looked

from ablate.report.report import report_of

KEYS = Path(__file__).parent / "contracts" / "report_keys.txt"
# Objects whose keys are names of the study: metrics, levels, seeds, states, facts.
MAPS = [
    "by_seed",
    "contrasts",
    "difference",
    "facts",
    "further",
    "levels",
    "lowers",
    "metrics",
    "raises",
    "settings",
    "states",
    "stopped",
    "trials",
    "tried",
    "weights",
]


def paths(value: object, before: str = "") -> Iterator[str]:
    """Every key of a document with the keys above it, entries of lists and maps as `*`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{before}{key}"
            inner = item.values() if key in MAPS and isinstance(item, dict) else [item]
            for one in inner:
                yield from paths(one, f"{before}{key}.")
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, before)


def test_every_key_that_other_programs_read_is_there(tmp_path: Path) -> None:
    numbers = tuple(factor(f.name, [0.0, 0.01, 0.02]) if f.name == "l2" else f for f in spec().factors)
    studies = [
        looked(2),
        example(spec(factors=numbers)),
        write_predictions(example(folder=tmp_path), items=40),
        with_trial(example(spec("full", seeds=(11,))), 3, state="FAIL", metrics={}),
        fraction(8),
        searched(),
    ]
    found = {path for study in studies for path in paths(report_document(study))}
    # Equal, since docs/agents.md calls the list complete: add a new key to it.
    assert found == set(KEYS.read_text().split())


def test_a_report_is_never_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        report_of(example()).study = "another"  # type: ignore[misc]
