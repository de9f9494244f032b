"""What `ablate show` writes about a trial."""

from typing import Any

import pytest

from ablate.runner.one_trial import trial_text


def document(facts: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"factors": {}, "settings": {}, "defaults": {}, "metrics": {}}
    part = {"name": "all", "part": "a1", "trained": True, "shared_with": [], "seconds": 60.0, "steps": 40}
    part |= {"metrics": {}, "folder": "f", "files": [], "logs": [], "facts": facts, "history": []}
    trial = {"number": 0, "study": "s", "state": "COMPLETE", "attempts": 1, "seconds": 60.0, "cell": "c"}
    return empty | trial | {"seed": 1, "parts": [part], "error": None, "again": None}


@pytest.mark.parametrize(
    ("facts", "steps"),
    [
        ({}, "40 steps, "),
        ({"stopped_early": {"steps": 40, "of": 100}}, "40 steps of 100 (stopped early), "),
    ],
)
def test_a_trial_that_stopped_early_says_of_how_many_steps(facts: dict[str, Any], steps: str) -> None:
    assert f"part all (a1): {steps}" in trial_text(document(facts))


def test_a_trial_that_failed_has_no_time() -> None:
    trial = document({})
    trial["parts"][0] |= {"trained": False, "history": [{"what": "failed", "when": "t", "who": "w"}]}
    text = trial_text(trial | {"state": "FAIL", "seconds": 0.0})
    assert text.startswith("trial 0 of s: FAILED, 1 attempt\n")
    assert "part all (a1): failed\n" in text


@pytest.mark.parametrize(
    ("shared", "said"), [([3], "shared with trial 3\n"), ([3, 5, 7], "shared with trials 3, 5, 7\n")]
)
def test_the_trials_that_share_a_part_are_named(shared: list[int], said: str) -> None:
    trial = document({})
    trial["parts"][0]["shared_with"] = shared
    assert said in trial_text(trial)


def test_values_are_shown_as_a_study_file_writes_them() -> None:
    text = trial_text(document({"gpu": None, "amp": True}))
    assert "gpu  null" in text
    assert "amp  true" in text


def test_of_thousands_of_facts_the_first_are_shown() -> None:
    text = trial_text(document({f"fact {number}": number for number in range(20_000)}))
    assert "fact 199 " in text
    assert "fact 200 " not in text
    assert "19800 more; --json lists them" in text
