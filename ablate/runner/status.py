"""`ablate status`: what is done, running, failed and left, as data and as a few lines."""

from collections import Counter
from typing import Any

from ablate.store.results import Results, sharing
from ablate.text import duration, plural


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
            }
            for trial in results.trials
        ],
    }


def parts_document(results: Results) -> dict[str, Any]:
    """Return what sharing parts saved so far: parts trained, uses by complete trials, seconds trained and seconds used."""
    found = sharing(results, results.trials)
    return {
        "trained": len(results.parts),
        "used": found.used,
        "seconds_trained": round(sum(part.seconds for part in results.parts.values()), 3),
        "seconds_used": round(found.seconds_used, 3),
    }


def status_text(results: Results) -> str:
    """Return the same for a person."""
    document, shared = status_document(results), sharing(results, results.trials)
    names = ("complete", "running", "waiting", "failed", "pruned")
    counts = ", ".join(f"{document[name]} {name}" for name in names if document[name])
    lines = [f"{document['study']}: {plural(document['planned'], 'trial')}: {counts or 'none yet'}"]
    if shared.used > shared.unique:
        lines.append(
            f"{shared.unique} parts trained and used {shared.used} times: "
            f"{duration(shared.seconds_saved)} of training saved"
        )
    lines += [
        f"  trial {trial.number} (seed {trial.seed}, {', '.join(f'{k}={v}' for k, v in trial.factors.items())}): "
        f"FAILED after {plural(trial.attempts, 'attempt')}: {trial.error}"
        for trial in results.trials
        if trial.state == "FAIL"
    ]
    return "\n".join(lines)
