"""`ablate status`: what is done, running, failed and left, as data and as a few lines."""

from collections import Counter
from typing import Any

from ablate.store.results import Results


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
    used = [
        (part, trial.seed)
        for trial in results.trials
        if trial.state == "COMPLETE"
        for part in trial.parts.values()
    ]
    return {
        "trained": len(results.parts),
        "used": len(used),
        "seconds_trained": round(sum(part.seconds for part in results.parts.values()), 3),
        "seconds_used": round(sum(results.parts[key].seconds for key in used if key in results.parts), 3),
    }


def status_text(results: Results) -> str:
    """Return the same for a person."""
    document = status_document(results)
    counts = ", ".join(
        f"{document[name]} {name}"
        for name in ("complete", "running", "waiting", "failed", "pruned")
        if document[name]
    )
    lines = [f"{document['study']}: {document['planned']} trials: {counts or 'none yet'}"]
    parts = document["parts"]
    if parts["used"] > parts["trained"]:
        lines.append(
            f"{parts['trained']} parts trained and used {parts['used']} times: "
            f"{parts['seconds_used'] - parts['seconds_trained']:.0f} s of training saved"
        )
    lines += [
        f"  trial {trial['number']} (seed {trial['seed']}, {', '.join(f'{k}={v}' for k, v in trial['factors'].items())}): "
        f"FAILED after {trial['attempts']} attempt{'s' * (trial['attempts'] != 1)}: {trial['error']}"
        for trial in document["trials"]
        if trial["state"] == "FAIL"
    ]
    return "\n".join(lines)
