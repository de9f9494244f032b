"""What looks at the results change in the report: which numbers an effect has, when it got them, and what was planned."""

from collections import Counter

from ablate.evidence.frames import Grid
from ablate.evidence.looks import Seen, Stop, seen_in
from ablate.report.document import Adding, LookedAt, LookRow
from ablate.report.phrases import OPEN, STOPS, UNTIL_DECIDED, UNTIL_WIDTH
from ablate.report.words import number
from ablate.text import plural


def looked_at(seen: Seen) -> LookedAt:
    """Return when an effect was seen last, and why it got no more seeds."""
    return LookedAt(
        seen.look, seen.seeds, seen.stop, seen.p_sequential, seen.level, seen.fraction, seen.chance
    )


def adding_of(grid: Grid) -> Adding | None:
    """Return the plan by which seeds are added; None where they are not."""
    looking = grid.results.spec.looking
    if looking is None:
        return None
    until = "decided" if looking.width is None else {"width": looking.width}
    return Adding(looking.start, tuple(looking.looks), looking.looks[-1], until)


def look_rows(grid: Grid) -> tuple[LookRow, ...]:
    """Return the looks taken so far: of the comparisons how many stopped at each, and why, and how many go on."""
    rows = []
    for look in grid.results.looks:
        seen = seen_in(look).values()
        stopped = Counter(str(one.stop) for one in seen if one.stop and one.look == look.number)
        still_open = sum(one.stop is None for one in seen)
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
    """Return what one look brought: `look 2 (5 seeds): 1 decided, 2 open`."""
    said = [f"{count} {STOPS[Stop(stop)]}" for stop, count in row.stopped.items()]
    going = f"{row.open or 'none'} {OPEN}"
    return f"look {row.number} ({plural(row.seeds, 'seed')}): {', '.join([*said, going])}"


def when_seen(look: LookedAt) -> str:
    """Return how an effect stood at its last look: `decided at look 2`."""
    how = STOPS[Stop(look.stop)] if look.stop else OPEN
    return f"{how} at look {look.number}"
