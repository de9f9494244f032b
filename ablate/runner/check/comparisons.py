"""Checks of a trainer, made on the traces of its training runs. Each says what was seen and how to fix it.

Runs are compared by their curves, metrics and predictions, bit by bit. Values that measure time or memory, going by their
names, are left out."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from statistics import median

from ablate.runner.check.one_run import Trace
from ablate.text import duration, listed, plural, shortened

PASS, FAIL, NOT_CHECKED = "PASS", "FAIL", "not checked"
# Relative difference of the first values that differ. On a GPU
# atomic additions change the last bits of a float32, by 1e-7 each.
ROUNDING = 1e-4
# The id, label and cluster of an item.
Item = tuple[str, str, str]
_MEASURED = re.compile(
    r"(^|[/_.\s-])((run)?time|(milli)?seconds|ms|duration|elapsed|per_sec(ond)?|throughput|memory)([/_.\s-]|$)",
    re.I,
)

SEEDING = (
    "seed every generator that is used from context.seed (random, NumPy, torch, the order of the data), and use no clock, "
    "process id or file that changes; a program of ablate.command gets {seed} and ABLATE_SEED"
)
NO_SEED = (
    "use context.seed (a program of ablate.command: {seed} or ABLATE_SEED) for initial weights, data order and everything else "
    "random; if nothing is random, differences between cells cannot be tested against the noise of seeds"
)
SHARED = (
    "something carries over from trial to trial: a module's variable, a cache (such as context.cache) whose key lacks a setting "
    "or the seed, a generator seeded at import; create it in train(), or put everything it depends on into the key"
)
GENERATORS = "save and restore the states of every generator (random, NumPy, torch, torch.cuda) and the position in the data"
OPTIMIZER = "save and restore the states of optimizer, scheduler and gradient scaler, and every running mean"
SUMS = "save and restore what accumulates until the end: running sums, the best value so far, the state of early stopping"
PREFIX = (
    "let prefixes(settings) keep every setting that changes the training up to that point, and save all that the rest needs in "
    "the state of context.prefix: files in context.workdir and facts are not handed on"
)
NO_PREDICTIONS = (
    "call context.predictions with the prediction for each dev example (a program of ablate.command writes "
    "predictions/dev.<task>.csv): intervals then cover the choice of examples too"
)
IDS = (
    "give each item the same id, label and (if there are any) cluster in all cells and seeds, and write the items in the same "
    "order; an id may be the item's position in the dev data before any shuffling"
)
NO_END = "no part was trained to its end"
NO_END_HELP = "see the parts above"
LIMIT = "give it more time (--minutes), or give the trainer a smoke(settings) that shrinks training to a few steps"


@dataclass(frozen=True)
class Check:
    """One question about a trainer, answered."""

    name: str
    result: str
    seen: str
    fix: str | None = None


@dataclass(frozen=True)
class Difference:
    """The first value in which two runs differ."""

    what: str
    one: object
    other: object
    step: int | None = None  # None: not on a curve

    @property
    def is_rounding(self) -> bool:
        """Whether the two may differ by rounding alone."""
        if not (isinstance(self.one, float) and isinstance(self.other, float)):
            return False
        return abs(self.one - self.other) <= ROUNDING * max(abs(self.one), abs(self.other))

    def __str__(self) -> str:
        return f"{self.what} is {_shown(self.one)} and {_shown(self.other)}"


def _shown(value: object) -> str:
    return "missing" if value is None else shortened(str(value))


def first_difference(one: Trace, other: Trace, gaps: bool = False) -> Difference | None:
    """Return where two traces differ first, or None. `gaps`: ignore points that only one trace has."""
    return next(_differences(one, other, gaps), None)


def _differences(one: Trace, other: Trace, gaps: bool) -> Iterator[Difference]:
    keys = one.points.keys() & other.points.keys() if gaps else one.points.keys() | other.points.keys()
    # When training is cut short, one program may have printed a little more than the other.
    end = min((trace.last_step or 0 for trace in (one, other) if trace.cut), default=math.inf)
    for step, name in sorted(keys):
        values = one.points.get((step, name)), other.points.get((step, name))
        if step <= end and _differ(name, *values):
            yield Difference(f"{name} at step {step}", *values, step)
    if one.metrics is None or other.metrics is None:
        return
    for name in sorted(one.metrics.keys() | other.metrics.keys()):
        values = one.metrics.get(name), other.metrics.get(name)
        if _differ(name, *values):
            yield Difference(f"metric {name}", *values)
    for file in sorted(one.predictions.keys() | other.predictions.keys()):
        rows = [trace.predictions.get(file, b"").decode().splitlines() for trace in (one, other)]
        for number, (row, its) in enumerate(zip_longest(*rows), 1):
            if row != its:
                yield Difference(f"line {number} of predictions/{file}", row, its)


def _differ(name: str, one: float | None, other: float | None) -> bool:
    # NaN is not equal to itself.
    return one != other and repr(one) != repr(other) and not _MEASURED.search(name)


def amount(trace: Trace) -> str:
    """Describe in words what there is to compare."""
    counts = {
        "point": len(trace.points),
        "metric": len(trace.metrics or {}),
        "prediction file": len(trace.predictions),
    }
    return ", ".join(plural(count, noun) for noun, count in counts.items() if count) or "nothing to compare"


def trains(trace: Trace, limit_s: float) -> Check:
    """Does it train to the end?"""
    if trace.error:
        return Check("trains", FAIL, trace.error, "fix the error; `ablate run` would fail in the same way")
    if trace.cut:
        at = "" if trace.last_step is None else f" at step {trace.last_step}"
        return Check(
            "trains",
            NOT_CHECKED,
            f"it was stopped{at} after {duration(limit_s)}, so its end was not checked",
            LIMIT,
        )
    seconds = duration(trace.seconds)
    if trace.last_step is None:
        return Check(
            "trains",
            PASS,
            f"to its end, in {seconds}; steps unknown: it never calls context.checkpoint (a program of ablate.command: it "
            "gives no points with a step)",
        )
    return Check("trains", PASS, f"to its end: {plural(trace.last_step, 'step')}, {seconds}")


def same_seed(one: Trace, again: Trace) -> Check:
    """Does the same seed give the same bits twice?"""
    name = "same seed"
    if again.error:
        return Check(name, FAIL, f"the second time it fails: {again.error}", SEEDING)
    difference = first_difference(one, again)
    if difference is None:
        return Check(name, PASS, f"the same bits twice ({amount(one)})")
    if one.device != "cpu" and difference.is_rounding:
        return Check(
            name,
            PASS,
            f"on {one.device} the bits differ, by rounding only: {difference}",
            "call torch.use_deterministic_algorithms(True) to get equal bits",
        )
    return Check(name, FAIL, f"two runs with the same seed differ: {difference}", SEEDING)


def other_seed(one: Trace, others: Mapping[int, Trace]) -> Check:
    """Does another seed change anything? `others`: by seed."""
    name = "other seed"
    for seed, trace in others.items():
        if trace.error:
            return Check(
                name,
                FAIL,
                f"with seed {seed} it fails: {trace.error}",
                "find out whether this seed causes it",
            )
        if difference := first_difference(one, trace):
            return Check(name, PASS, f"seed {seed} changes {difference.what}")
    seeds = " and ".join(map(str, others))
    return Check(name, FAIL, f"the same bits with seed {seeds} ({amount(one)})", NO_SEED)


def resume(one: Trace, killed: Trace, resumed: Trace) -> Check:
    """Does training that is killed and started again give the same bits as uninterrupted training?

    `killed`: what the first process saved before it died."""
    name = "resume"
    if killed.error:
        return Check(
            name,
            FAIL,
            f"failed while saving: {killed.error}",
            "save dicts, lists, numbers, text and tensors only",
        )
    if killed.saved is None:
        how = "killed halfway and started again (from which step is not known)"
    elif resumed.restored is None:
        how = f"killed after step {killed.saved} and started over: it saves, but never calls context.restore"
    elif killed.points and killed.points.keys() <= resumed.points.keys():
        how = f"killed after step {killed.saved} and started over: the steps before the kill were computed again"
    else:
        how = f"killed after step {killed.saved} and resumed"
    if resumed.error:
        return Check(
            name,
            FAIL,
            f"{how}, it fails: {resumed.error}",
            "check what train() does with the state that it restores",
        )
    whole = Trace({**killed.points, **resumed.points}, resumed.steps, resumed.metrics, resumed.predictions)
    whole.cut = resumed.cut
    difference = first_difference(one, whole, gaps=True)
    if difference is None:
        return Check(name, PASS, f"{how}: the same bits")
    saved = f"; the saved state has {listed(resumed.restored, 12)}" if resumed.restored else ""
    seen = f"{how}, it differs{_from(difference)}: {difference} (not killed, and killed){saved}"
    return Check(name, FAIL, seen, _culprit(difference, killed.saved, whole))


def _from(difference: Difference) -> str:
    return " at the end" if difference.step is None else f" from step {difference.step} on"


def _culprit(difference: Difference, saved: int | None, whole: Trace) -> str:
    """Return what was probably not saved, judging by where the first difference is."""
    if saved is None:
        return "remove or continue what an earlier attempt left in context.workdir"
    reported = sorted({step for step, _ in whole.points if step > saved})
    if not reported or (difference.step == reported[0] and reported[0] > saved + 1):
        return f"{GENERATORS}; {OPTIMIZER}; report a point per step to see where it begins"
    if difference.step is None:
        return SUMS
    if difference.step == reported[0]:
        return f"{GENERATORS}; also make sure that training continues with the step after the one in the saved state"
    return f"{OPTIMIZER}; the first step was right, so weights and data order probably are restored"


def warm_process(one: Trace, after_another: Trace, another: str) -> Check:
    """Is training the same after another run in the same process?"""
    name = "warm process"
    if why := after_another.error_before:
        seen = f"{another}, which was to be trained before it, fails: {why}"
        return Check(name, FAIL, seen, "find out whether that seed causes it")
    if after_another.error:
        return Check(
            name, FAIL, f"after {another} in the same process it fails: {after_another.error}", SHARED
        )
    difference = first_difference(one, after_another)
    if difference is None:
        return Check(name, PASS, f"the same bits after {another} in the same process")
    seen = f"after {another} in the same process it differs{_from(difference)}: {difference} (in a fresh process, and after it)"
    return Check(name, FAIL, seen, SHARED)


def prefix(one: Trace, continued: Trace, another: str) -> Check:
    """Does training that continues from the end of a shared prefix give the same bits as training from the start?"""
    name, how = "prefix", f"continued from where {another} left off"
    if continued.error:
        return Check(name, FAIL, f"{how}, it fails: {continued.error}", PREFIX)
    if continued.restored is None:
        seen = (
            f"prefixes(settings) says that it begins like {another}, but nothing was saved and restored there"
        )
        return Check(
            name, NOT_CHECKED, seen, "call context.prefix at each point, and context.restore at the start"
        )
    difference = first_difference(one, continued)
    if difference is None:
        return Check(name, PASS, f"{how}: the same bits")
    seen = f"{how}, it differs{_from(difference)}: {difference} (from the start, and continued)"
    return Check(name, FAIL, seen, PREFIX)


def seconds_per_step(trace: Trace) -> float | None:
    """Return the median seconds of a step; None with fewer than two."""
    paces = [
        (until - since) / (step - before)
        for (before, since), (step, until) in pairwise(trace.steps)
        if step > before
    ]
    return median(paces) if paces else None


def same_ids(cells: Mapping[str, Mapping[str, bytes]], others: Mapping[str, Mapping[str, bytes]]) -> Check:
    """Are the items of predictions the same everywhere, in the same order? Otherwise the report cannot pair them.

    `cells`: files by name, of each cell that was trained to its end. `others`: of runs of some parts with other seeds."""
    name = "ids"
    if not cells:
        return Check(name, NOT_CHECKED, NO_END, NO_END_HELP)
    files = sorted({file for found in cells.values() for file in found})
    if not files:
        return Check(name, NOT_CHECKED, "no predictions were written", NO_PREDICTIONS)
    seen = []
    for file in files:
        items = {where: _items(found[file]) for where, found in {**cells, **others}.items() if file in found}
        (first, expected), *rest = items.items()
        for where, found in rest:
            if fault := _unlike(expected, found):
                return Check(name, FAIL, f"predictions/{file}: {fault} ({first}; {where})", IDS)
        if len({item for item, *_ in expected}) < len(expected):
            return Check(name, FAIL, f"predictions/{file}: an id appears twice ({first})", IDS)
        missing = sum(file not in found for found in cells.values())
        where = f", missing in {plural(missing, 'cell')}" if missing else ""
        seen.append(f"{file}: {plural(len(expected), 'item')}{where}")
    return Check(name, PASS, f"the same items in the same order in all cells and seeds ({listed(seen)})")


def _items(content: bytes) -> list[Item]:
    """Return the id, label and cluster of each item in the file's order; without clusters, the cluster is empty."""
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return [(row["id"], row["gold"], row.get("cluster", "")) for row in rows]


def _unlike(expected: list[Item], found: list[Item]) -> str | None:
    """Return what differs between two files, as the report would see it when it pairs their items; None if nothing does."""
    if expected == found:
        return None
    (item, label, cluster), (its, its_label, its_cluster) = next(
        (one, other) for one, other in zip_longest(expected, found, fillvalue=("", "", "")) if one != other
    )
    if item != its:
        first = f"items {shortened(item)!r} and {shortened(its)!r} are the first that differ"
        if sorted(expected) == sorted(found):
            return f"the same items in another order: {first}"
        return f"{first}; {len(expected)} and {len(found)} items"
    if label != its_label:
        return f"item {shortened(item)!r} is labelled {label} and {its_label}"
    clusters = (repr(shortened(name)) if name else "none" for name in (cluster, its_cluster))
    return f"the cluster of item {shortened(item)!r} is {' and '.join(clusters)}"


def metric_returned(faults: Sequence[str], cells: int, primary: str) -> Check:
    """Does each cell return the study's metric? `faults`: of cells that do not; `cells`: how many trained to the end."""
    name = "metric"
    if faults:
        return Check(
            name,
            FAIL,
            listed(faults, 2, "; "),
            "return it from train (or combine), or name another one in metric.name",
        )
    if not cells:
        return Check(name, NOT_CHECKED, NO_END, NO_END_HELP)
    return Check(name, PASS, f"{primary} in each of {plural(cells, 'cell')}")
