"""What a study cost: hours, money and energy."""

import math

from ablate.evidence.frames import Grid
from ablate.report.document import Cost, Report
from ablate.report.sections.cells import best_row
from ablate.store.results import seconds_trained
from ablate.text import duration


def cost(grid: Grid) -> Cost:
    """Return hours, money, the energy used by GPUs, and the cost of each point gained in the primary metric."""
    parts = grid.results.parts.values()
    trials = (*grid.results.trials, *grid.results.tried)
    seconds = (
        seconds_trained(parts)
        if parts
        else math.fsum(sorted(trial.seconds for trial in grid.trials.values()))
    )
    per_hour = grid.results.spec.budget.usd_per_hour
    usd = seconds / 3600 * per_hour if per_hour is not None else None
    best, reference = best_row(grid), grid.reference
    joules = [float(used) for part in parts if (used := part.facts.get("gpu_energy_joules")) is not None]
    gain = None
    if best is not None and reference is not None and best != reference:
        values = grid.values[grid.primary]
        seeds = len(grid.results.seeds_of(grid.cells[best].hash))
        difference = float((values[best] - values[reference])[:seeds].mean()) * grid.sign
        gain = difference if math.isfinite(difference) else None
    return Cost(
        hours=seconds / 3600,
        usd=usd,
        usd_per_hour=per_hour,
        energy_kwh=math.fsum(joules) / 3.6e6 if joules else None,
        energy_parts=len(joules),
        parts=len(parts),
        not_counted=sum(trial.state in ("FAIL", "PRUNED") for trial in trials),
        budget_hours=grid.results.spec.budget.hours,
        gain=gain,
        usd_per_point=usd / (gain * 100) if usd is not None and gain and gain > 0 else None,
    )


def cost_sentence(report: Report) -> str:
    """Return what the study cost."""
    usd = f", ${report.cost.usd:.2f}" if report.cost.usd is not None else ""
    lost = " (trials that failed or were pruned are not counted)" if report.cost.not_counted else ""
    return f"Cost: {duration(report.cost.hours * 3600)} of training{usd}{lost}."
