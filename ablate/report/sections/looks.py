"""What the report says about looks: the plan, the looks taken, and the look that an effect's numbers come from."""

from collections import Counter

from ablate.evidence.frames import Grid
from ablate.evidence.looks import LookResult, Stop, results_of_look
from ablate.report.document import Adding, LookedAt, LookRow
from ablate.report.formatting import number
from ablate.report.phrases import OPEN, STOPS, UNTIL_DECIDED, UNTIL_WIDTH
from ablate.text import plural


def look_of(seen: LookResult) -> LookedAt:
    """Return the last look at an effect, and why no more seeds were added for it."""
    return LookedAt(
        seen.look,
        seen.seeds,
        seen.stop,
        seen.p_sequential,
        seen.level,
        seen.fraction,
        seen.chance,
        seen.level90,
    )


def adding_of(grid: Grid) -> Adding | None:
    """Return the plan for adding seeds; None if the study does not add any."""
    looking = grid.results.spec.looking
    if looking is None:
        return None
    return Adding(looking.start, tuple(looking.looks), looking.looks[-1], looking.until)


def look_rows(grid: Grid) -> tuple[LookRow, ...]:
    """Return the looks taken so far: how many comparisons stopped at each, why, and how many are open."""
    rows = []
    for look in grid.results.looks:
        seen = results_of_look(look).values()
        stopped = Counter(
            str(comparison.stop) for comparison in seen if comparison.stop and comparison.look == look.number
        )
        still_open = sum(comparison.stop is None for comparison in seen)
        rows.append(LookRow(look.number, look.seeds, stopped, still_open, len(look.cells)))
    return tuple(rows)


def plan_text(plan: Adding) -> str:
    """Return the plan in a sentence."""
    until = (
        UNTIL_DECIDED
        if isinstance(plan.until, str)
        else UNTIL_WIDTH.format(width=number(plan.until["width"]))
    )
    looks = ", ".join(map(str, plan.looks))
    return (
        f"Seeds are added {until}: {plan.start} at the start, looks at {looks} seeds, {plan.at_most} at most"
    )


def look_text(row: LookRow) -> str:
    """Return the outcome of one look: `look 2 (5 seeds): 1 significant, 2 still open`."""
    stopped = [f"{count} {STOPS[Stop(stop)]}" for stop, count in row.stopped.items()]
    going = f"{row.open or 'none'} {OPEN}"
    return f"look {row.number} ({plural(row.seeds, 'seed')}): {', '.join([*stopped, going])}"


def when_seen(look: LookedAt) -> str:
    """Return the state of an effect at its last look: `significant at look 2`."""
    how = STOPS[Stop(look.stop)] if look.stop else OPEN
    return f"{how} at look {look.number}"
