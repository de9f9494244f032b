"""Well-known tasks by name, in place of the keys that a study would otherwise write out. Both give the same cells.

GLUE (Wang et al. 2018), from `nyu-mll/glue` on the hub, with the metrics of its paper; CS224N's default project (2024).
"""

from collections.abc import Mapping
from typing import Any

_NLI = ["entailment", "neutral", "contradiction"]
_TWO_WAY = ["entailment", "not_entailment"]


def _glue(config: str, kind: str, **keys: Any) -> dict[str, Any]:
    return {"kind": kind, "hub": "nyu-mll/glue", "config": config, **keys}


def _course(files: str, kind: str, **keys: Any) -> dict[str, Any]:
    return {"kind": kind, "files": f"cs224n/{files}-{{split}}.csv", "text": "course", **keys}


# Names of labels are in the order of the hub's numbers. GLUE's test labels are hidden.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "glue/cola": _glue("cola", "classification", labels=2, metric="mcc"),
    "glue/sst2": _glue("sst2", "classification", labels=2),
    "glue/mrpc": _glue("mrpc", "pair_classification", labels=2),
    "glue/stsb": _glue("stsb", "pair_regression", range=[0, 5]),
    "glue/qqp": _glue("qqp", "pair_classification", labels=2),
    "glue/mnli": _glue(
        "mnli",
        "pair_classification",
        labels=_NLI,
        splits={"dev": "validation_matched", "test": "test_matched"},
    ),
    "glue/qnli": _glue(
        "qnli",
        "pair_classification",
        labels=_TWO_WAY,
        columns={"sentence1": "question", "sentence2": "sentence"},
    ),
    "glue/rte": _glue("rte", "pair_classification", labels=_TWO_WAY),
    "cs224n/sst": _course("ids-sst", "classification", labels=5, splits={"test": "test-student"}),
    "cs224n/quora": _course(
        "quora",
        "pair_classification",
        labels=2,
        splits={"test": "test-student"},
        blank_labels="drop",
    ),
    "cs224n/sts": _course("sts", "pair_regression", range=[0, 5], splits={"test": "test-student"}),
}


def expanded(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task with the keys of its `preset` written out; its own keys override them.

    If the study gives `files` in place of the preset's hub (or the reverse), the preset's names of splits are dropped.
    """
    preset = dict(PRESETS[task["preset"]])
    source, other = ("hub", "files") if "hub" in preset else ("files", "hub")
    if task.get(other) is not None:
        preset = {key: value for key, value in preset.items() if key not in (source, "config", "splits")}
    if task.get("kind", preset["kind"]) != preset["kind"]:
        preset = {key: value for key, value in preset.items() if key not in ("labels", "range", "metric")}
    return {**preset, **{key: value for key, value in task.items() if key != "preset"}}
