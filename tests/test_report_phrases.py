"""Words decide nothing: with gibberish in place of every sentence all verdicts, flags and numbers are the same."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Json
from numpy.random import default_rng
from report_examples import (
    example,
    factor,
    fraction,
    searched,
    spec,
    valued,
    with_trial,
    write_predictions,
)

from ablate.report import phrases
from ablate.report.as_json import to_json
from ablate.report.outside.compare import compare_files
from ablate.report.render import terminal
from ablate.report.render.html import render_html
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of

# Keys whose values are sentences.
SENTENCES = {"summary", "note", "evidence", "fix", "warnings"}


@pytest.fixture
def gibberish(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and every text of the tables of words is another; what is filled in stays."""

    def call() -> None:
        for module in (phrases, terminal):
            for name, value in list(vars(module).items()):
                if name.isupper() or name == "_METHODS":
                    replace(name, value)

    def replace(name: str, value: object) -> None:
        if type(value) is dict:
            for key, text in value.items():
                if type(text) is str:
                    monkeypatch.setitem(value, key, garbled(text))
        elif isinstance(value, str):
            other = garbled(value)
            for module in [m for m in sys.modules.values() if (m.__name__ or "").startswith("ablate.")]:
                if vars(module).get(name) is value:
                    monkeypatch.setattr(module, name, other)

    return call


def garbled(text: str) -> str:
    return "zq" + "".join(re.findall(r"{\w+}", text))


def decided(document: Json) -> Json:
    """The document without its sentences, as JSON."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(one) for key, one in value.items() if key not in SENTENCES}
        return [without(one) for one in value] if isinstance(value, list) else value

    kept: Json = json.loads(json.dumps(without(document)))
    return kept


def noisy(expected: Callable[[Mapping[str, Any]], float]) -> Callable[[Mapping[str, Any], int], float]:
    """A value with noise of its own for each cell and seed."""
    return lambda levels, seed: (
        expected(levels) + 0.001 * default_rng([seed, *levels.values()]).standard_normal()
    )


a_bend = noisy(lambda levels: -0.01 * (levels["size"] - 2) ** 2)
crossed = noisy(lambda levels: levels["a"] * (0.05 - 0.08 * levels["b"]))


def stuck(levels: Mapping[str, Any], seed: int) -> float:
    return 0.9 if levels["x"] else 0.8 + 0.01 * seed


SIZES = (factor("size", [1, 2, 3, 4]),)
AB = (factor("a", [0, 1]), factor("b", [0, 1]))
STUDIES = {
    "one at a time": lambda folder: write_predictions(example(folder=folder), items=40),
    "full, lost runs": lambda folder: with_trial(example(spec("full")), 3, state="FAIL", metrics={}),
    "fraction": lambda folder: fraction(8),
    "one seed": lambda folder: write_predictions(example(spec("full", (11,)), folder=folder), items=40),
    "numeric": lambda folder: valued(spec("full", factors=SIZES, baseline={"size": 1}), a_bend),
    "stuck": lambda folder: valued(spec("full", factors=(factor("x", [0, 1]),), baseline={"x": 0}), stuck),
    "crossed": lambda folder: valued(spec("full", factors=AB, baseline={"a": 0, "b": 0}), crossed),
    "search": lambda folder: searched(),
    "under way": lambda folder: example(keep=lambda cell, seed: seed == 11),
}


@pytest.mark.parametrize("study", STUDIES)
def test_a_report_with_other_words_decides_the_same(
    study: str, tmp_path: Path, gibberish: Callable[[], None]
) -> None:
    results = STUDIES[study](tmp_path)
    before = report_of(results)
    gibberish()
    after = report_of(results)
    assert decided(to_json(after)) == decided(to_json(before))
    assert "zq" in render_markdown(after, ())
    assert "zq" in render_html(after, ())


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_comparison_with_other_words_decides_the_same(
    seeds: int, tmp_path: Path, gibberish: Callable[[], None]
) -> None:
    def file(name: str, values: Iterable[object], column: str = "prediction") -> Path:
        rows = (f"{i},{value}" for i, value in enumerate(values))
        (tmp_path / name).write_text("\n".join([f"id,{column}", *rows]))
        return tmp_path / name

    gold = file("gold.csv", [i % 3 for i in range(60)], "label")
    a, b = (
        [
            file(f"{side}{s}.csv", [(i + ((i * (s + 2) + s) % k == 0)) % 3 for i in range(60)])
            for s in range(seeds)
        ]
        for side, k in (("a", 4), ("b", 7))
    )
    before = compare_files(gold, a, b, "accuracy")
    gibberish()
    after = compare_files(gold, a, b, "accuracy")
    assert decided(to_json(after)) == decided(to_json(before))
    assert "zq" in terminal.comparison_text(after)
