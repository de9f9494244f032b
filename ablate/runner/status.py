"""`ablate status`: what is done, running, failed and left, as data and as a few lines."""

from collections import Counter
from typing import Any

from ablate.runner.logs import last_printed
from ablate.spec.model import levels_text
from ablate.store.results import Results, TrialResult, may_add, seconds_trained, sharing
from ablate.text import duration, plural, shortened


def status_document(results: Results) -> dict[str, Any]:
    """Return the document of `status --json` and `run --json`."""
    states = Counter(trial.state for trial in results.trials)
    return {
        "study": results.spec.study,
        "planned": len(results.trials),
        "complete": states["COMPLETE"],
        "running": states["RUNNING"],
        "waiting": states["WAITING"],
        "failed": states["FAIL"],
        "pruned": states["PRUNED"],
        "may_add": may_add(results),
        "parts": parts_document(results),
        "trials": [
            {
                "cell": trial.cell,
                "seed": trial.seed,
                "number": trial.number,
                "state": trial.state,
                "attempts": trial.attempts,
                "factors": trial.factors,
                "metrics": trial.metrics,
                "seconds": round(trial.seconds, 3),
                "error": trial.error,
                "last_line": _last_line(results, trial),
            }
            for trial in results.trials
        ],
    }


def _last_line(results: Results, trial: TrialResult) -> str | None:
    """Return the last line that a failed trial printed."""
    return last_printed(results.place, trial) if trial.state == "FAIL" and results.place else None


def parts_document(results: Results) -> dict[str, Any]:
    """Return what sharing has saved so far: parts trained, uses by complete trials, how many of the parts continue from another's
    prefix, seconds trained and seconds used."""
    shared = sharing(results, results.trials)
    return {
        "trained": len(results.parts),
        "used": shared.used,
        "continued": sum(part.is_continued for part in results.parts.values()),
        "seconds_trained": round(seconds_trained(results.parts.values()), 3),
        "seconds_used": round(shared.seconds_used, 3),
    }


def status_text(results: Results) -> str:
    """Return the document as text."""
    document, shared = status_document(results), sharing(results, results.trials)
    names = ("complete", "running", "waiting", "failed", "pruned")
    counts = ", ".join(f"{document[name]} {name}" for name in names if document[name])
    more = f"; up to {document['may_add']} more may be added" if document["may_add"] else ""
    lines = [f"{document['study']}: {plural(document['planned'], 'trial')}: {counts or 'none yet'}{more}"]
    if shared.used > shared.unique or shared.continued:
        how = f", {shared.continued} of them from where another left off," if shared.continued else ""
        lines.append(
            f"{shared.unique} parts trained{how} and used {shared.used} times: "
            f"{duration(shared.seconds_saved)} of training saved"
        )
    for trial, row in zip(results.trials, document["trials"], strict=True):
        if trial.state == "FAIL":
            lines.append(
                f"  trial {trial.number} (seed {trial.seed}, {levels_text(trial.factors)}): "
                f"FAILED after {plural(trial.attempts, 'attempt')}: {trial.error}"
            )
            # A program's error message already contains its last line.
            if row["last_line"] and row["last_line"] not in str(trial.error):
                lines.append(f"    last line it printed: {shortened(row['last_line'], 120)}")
    if document["failed"]:
        lines.append(
            f"  more: ablate show {document['study']} TRIAL, ablate logs {document['study']} TRIAL; once the cause is mended "
            "(not in the study file): ablate run STUDY --retry-failed"
        )
    return "\n".join(lines)
