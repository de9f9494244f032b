"""`ablate show`: everything about one trial, as data and as text."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from ablate.design.cell_settings import flat
from ablate.errors import BadInput
from ablate.runner.logs import attempts
from ablate.spec.model import level_text, levels_text
from ablate.store.reading import read_history
from ablate.store.results import Event, Results, TrialResult
from ablate.text import duration, listed, plural

MOST_ROWS = 200  # of a table; --json has all
SHOWN_FILES = 3  # files of code; if there are more, only their number is shown
SHOWN = 20  # how many events of a part are shown: the last ones
UNFINISHED = ("WAITING", "RUNNING")
STATES = {"FAIL": "FAILED"}  # states that are shown under another name


def find_trial(results: Results, number: int) -> TrialResult:
    """Return the trial with this number.

    Raises:
        BadInput: there is none.
    """
    for trial in results.trials:
        if trial.number == number:
            return trial
    last = len(results.trials) - 1
    has = f"its trials are 0 to {last}" if last >= 0 else "it has no trials yet"
    raise BadInput(f"TRIAL: {results.spec.study} has no trial {number}; {has}")


def traceback_of(results: Results, trial: TrialResult) -> str:
    """Return the traceback of a failed trial's error; empty where there is none."""
    if trial.state != "FAIL" or results.place is None:
        return ""
    file = results.place.error_file(trial.cell, trial.seed)
    return file.read_text(errors="replace").strip() if file.is_file() else ""


def trial_document(results: Results, trial: TrialResult) -> dict[str, Any]:
    """Return the document of `show --json`."""
    history = read_history(results.place) if results.place else []
    cell = next(cell for cell in results.cells if cell.hash == trial.cell)
    return {
        "study": results.spec.study,
        "number": trial.number,
        "state": trial.state,
        "cell": trial.cell,
        "seed": trial.seed,
        "factors": trial.factors,
        "settings": cell.settings,
        "defaults": {
            name: value for name, value in results.defaults.items() if name not in flat(cell.settings)
        },
        "attempts": trial.attempts,
        "metrics": trial.metrics,
        "seconds": round(trial.seconds, 3),
        "error": trial.error,
        "traceback": traceback_of(results, trial) or None,
        "parts": [_part(results, trial, name, hash_, history) for name, hash_ in trial.parts.items()],
        "again": _commands(results, trial),
    }


def _part(
    results: Results, trial: TrialResult, name: str, hash_: str, history: Sequence[Event]
) -> dict[str, Any]:
    assert results.place is not None
    folder = results.place.part_folder(hash_, trial.seed)
    trained = results.parts.get((hash_, trial.seed))
    shares = [
        other.number
        for other in results.trials
        if other.seed == trial.seed and hash_ in other.parts.values() and other is not trial
    ]
    return {
        "name": name,
        "part": hash_,
        "trained": trained is not None,
        "shared_with": shares,
        "seconds": trained and round(trained.seconds, 3),
        "steps": trained and trained.steps,
        "metrics": trained.metrics if trained else {},
        "folder": str(folder),
        "files": sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()),
        "history": [vars(event) for event in history if (event.part, event.seed) == (hash_, trial.seed)],
        "logs": [str(log) for log in attempts(results.place.log_folder(hash_, trial.seed))],
        "facts": trained.facts if trained else {},
    }


def _commands(results: Results, trial: TrialResult) -> str | None:
    """Return the command that trains the trial again; None if it is not trained yet."""
    if trial.state == "COMPLETE":
        return f"ablate reproduce {shlex.quote(results.spec.study)} {trial.number}"
    if trial.state == "FAIL":
        # A smoke run always starts anew.
        return results.run_command(*([] if results.is_smoke else ["--retry-failed"]))
    return None


def trial_text(document: dict[str, Any]) -> str:
    """Return the document as text."""
    state = STATES.get(document["state"], document["state"])
    tried = plural(document["attempts"], "attempt")
    # Only what ended with a result has been timed.
    if any(part["trained"] for part in document["parts"]):
        tried += f", {duration(document['seconds'])}"
    lines = [
        f"trial {document['number']} of {document['study']}: {state}, {tried}",
        f"cell {document['cell']}: {levels_text(document['factors'])}; seed {document['seed']}",
        *_table("settings", flat(document["settings"])),
        *_table("settings left at their defaults", document["defaults"]),
        *_table("metrics", document["metrics"]),
    ]
    for part in document["parts"]:
        lines += _part_lines(part)
    if document["error"]:
        lines += ["", f"error: {document['error']}"]
        lines += [f"  {line}" for line in (document["traceback"] or "").splitlines()]
    if document["again"]:
        lines += ["", f"to train it again: {document['again']}"]
    return "\n".join(lines)


def _part_lines(part: dict[str, Any]) -> list[str]:
    if part["trained"]:
        done = f"{plural(part['steps'], 'step')}{_early(part['facts'])}, {duration(part['seconds'])}"
    else:
        is_failed = part["history"] and part["history"][-1]["what"] == "failed"
        done = "failed" if is_failed else "not trained yet"
    shared = part["shared_with"]
    others = f", shared with {'trial' if len(shared) == 1 else 'trials'} {listed(shared)}" if shared else ""
    return [
        "",
        f"part {part['name']} ({part['part']}): {done}{others}",
        *_table("metrics", part["metrics"], "  "),
        f"  files in {part['folder']}: {listed(part['files'], 8) or 'none'}",
        *(f"  {event['what']} {event['when']} by {event['who']}" for event in part["history"][-SHOWN:]),
        *(f"  log: {log}" for log in part["logs"]),
        *_table("trained with", _facts(part["facts"]), "  "),
    ]


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a part was trained with; for many files of code, only their number."""
    code = facts.get("code")
    if not isinstance(code, Mapping) or len(code) <= SHOWN_FILES:
        return flat(facts)
    return flat({**facts, "code": f"{len(code)} files; --json lists them with their digests"})


def _early(facts: Mapping[str, Any]) -> str:
    stopped = facts.get("stopped_early")
    return f" of {stopped['of']} (stopped early)" if isinstance(stopped, Mapping) and "of" in stopped else ""


def _table(title: str, values: dict[str, Any], indent: str = "") -> list[str]:
    if not values:
        return []
    first = dict(islice(values.items(), MOST_ROWS))
    width = max(map(len, first))
    rows = [f"{indent}  {name:{width}}  {_as_written(value)}" for name, value in first.items()]
    more = len(values) - len(first)
    return [f"{indent}{title}:", *rows, *([f"{indent}  {more} more; --json lists them"] if more else [])]


def _as_written(value: Any) -> Any:
    """Return a value as a study file writes it."""
    return level_text(value) if value is None or isinstance(value, bool) else value
