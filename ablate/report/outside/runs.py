"""Turn the rows of a table into runs: combinations of levels, each with its metric.

A metric in several columns (one per seed) becomes one row per run. Percent signs are removed. Rows with the same combination and
block are one run, measured several times, and are averaged. Refuses a metric that is empty or not a finite number, a factor with
one level, an empty block."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from ablate.errors import BadInput
from ablate.report.outside.levels import coded, match_level, order_levels
from ablate.report.outside.number_format import as_number, why_no_number, without_percent
from ablate.report.outside.question import Question
from ablate.report.outside.tables import Table
from ablate.stats.factorial import conditions
from ablate.stats.linear import Factor, crossings
from ablate.tables import Faults
from ablate.text import listed, plural

# The largest and the smallest difference: sums of their squares must be neither infinite nor 0.
LARGEST, SMALLEST = 1e100, 1e-100
# With more, missing combinations are not listed.
MOST_COMBINATIONS = 4096
# Names for the block that is made of a wide table's columns; the first that is not taken is used.
WIDE_BLOCKS = ("seed", "column", "run", "block")


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs to analyse."""

    y: NDArray[np.float64]  # [n], each minus the first row's value
    factors: dict[str, list[str]]  # name -> [n]
    block: tuple[str, list[str]] | None  # name, [n]
    notes: list[str]
    rows: int  # of the table, with a metric
    dropped: int  # rows without a metric


@dataclass(frozen=True)
class _Cell:
    """A field of the metric, and its place in the table."""

    row: int
    column: str
    text: str


def runs_of(table: Table, question: Question, faults: Faults) -> Runs:
    """Return the runs in `table`; the columns that are neither factors nor block are the metric.

    Raises:
        BadInput: with everything in `faults`.
    """
    metric, factors, block = question.metric, question.factors or (), question.block
    ragged = bool(faults)
    metrics = [name for name in table.columns if name not in (*factors, block)]
    if not metrics:
        raise BadInput(
            f"--metric: {metric!r} matches only columns of --factors and --block; name another column"
        )
    several = len(metrics) > 1
    if block and several:
        raise BadInput(
            f"--block: {listed(metrics)} are read as one column per seed, so leave --block out; if they are different "
            "metrics, analyze one at a time"
        )
    if several and question.unit == "run" and not _look_alike(metrics):
        _refuse_repeated(table, metrics, factors)
    cells = [_Cell(row, name, table.columns[name][row]) for row in range(len(table)) for name in metrics]
    cells, percent = _without_percent(cells, table, faults)
    y, kept = _metric(cells, table, metric, question.drop_missing, faults)
    # If some rows cannot be read, levels are checked over all rows.
    judged = cells if faults else kept
    columns = {
        n: [table.columns[n][cell.row] for cell in judged] for n in (*factors, *([block] if block else []))
    }
    if block:
        for cell, text in zip(judged, columns[block], strict=True):
            if not text:
                faults.add("empty; every row needs a block", table.lines[cell.row], block)
    if len(metrics) > 1:
        block = next((name for name in WIDE_BLOCKS if name not in factors), "column of the metric")
        columns[block] = [cell.column for cell in judged]
    # Rows of the wrong length were left out, and may hold the levels that seem to be missing.
    for name in columns if not ragged else ():
        _check_levels(columns[name], name, question.baseline.get(name), faults)
    faults.raise_any()
    notes = [*table.notes, *percent]
    if dropped := len(cells) - len(kept):
        notes.insert(0, f"{dropped} of {len(cells)} rows have no {metric} and are left out")
    if len(metrics) > 1:
        other = "" if _look_alike(metrics) else "; if they are different metrics, analyze one at a time"
        notes.append(f"{listed(metrics)}: one column for each {block}{other}")
    if block is None:
        notes += _seeds_not_named(table, factors)
    by_row = question.unit == "row"
    if (block is None or by_row) and (copies := sum(cell.row in table.copies for cell in kept)):
        why, how = (
            ("With --unit row", "leave --unit out")
            if by_row and block
            else ("Without --block", "name the column of seeds with --block")
        )
        notes.append(
            f"rows that are exact copies of an earlier row: {copies}. {why} each counts as one more run; if it is "
            f"the same run twice, intervals are too narrow: remove the copies, or {how}"
        )
    runs = Runs(
        y, {n: columns[n] for n in factors}, (block, columns[block]) if block else None, notes, len(y), dropped
    )  # fmt: skip
    runs = runs if by_row or block is None else _averaged(runs)
    return replace(runs, notes=[*runs.notes, *_missing(runs)])


def _seeds_not_named(table: Table, factors: Sequence[str]) -> list[str]:
    """Return notes on columns that are named like a seed."""
    return [
        f"{name} counts as a factor; if it is the random seed, name it with --block instead"
        if name in factors
        else f"the column {name} is not used; --block {name} compares runs with the same seed, where there are any"
        for name in dict.fromkeys([*factors, *table.names])
        if re.fullmatch("(.*[^a-z])?seed", name.lower())
    ]


def _look_alike(metrics: Sequence[str]) -> bool:
    """Return whether names differ only in their digits, as those of seeds do, such as `acc_11` and `acc_22`."""
    return len({re.sub("[0-9]+", "0", name) for name in metrics}) == 1


def _refuse_repeated(table: Table, metrics: Sequence[str], factors: Sequence[str]) -> None:
    """Refuse columns with unlike names in a table that repeats combinations: they are metrics, and its rows the seeds.

    Raises:
        BadInput: some combination of levels has several rows.
    """
    combinations = set(zip(*(table.columns[name] for name in factors), strict=True))
    if repeats := len(table) - len(combinations):
        raise BadInput(
            f"--metric: {listed(metrics)} would be one column per seed, but {plural(repeats, 'row')} "
            f"{'repeats' if repeats == 1 else 'repeat'} the combination of an earlier row; if they are different metrics, "
            "analyze one at a time and name the column of seeds with --block"
        )


def _without_percent(cells: list[_Cell], table: Table, faults: Faults) -> tuple[list[_Cell], list[str]]:
    filled = [cell for cell in cells if cell.text not in ("", "NA")]
    signs = Counter(cell.text.endswith("%") for cell in filled)
    if len(signs) == 2:
        signed = signs[True] <= signs[False]
        odd = next(cell for cell in filled if cell.text.endswith("%") == signed)
        among = "without one" if signed else "with one"
        what = f"{odd.text[:40]!r} {'has a' if signed else 'has no'} percent sign, others are {among}"
        faults.add(f"{what}; write all in one unit", table.lines[odd.row], odd.column)
    numbers = without_percent([cell.text for cell in cells])
    if numbers is None:
        return cells, []
    shown = filled[0].text
    note = f"percent signs: {shown} is read as {shown.removesuffix('%').rstrip()}; effects are in percentage points"
    return [replace(cell, text=text) for cell, text in zip(cells, numbers, strict=True)], [note]


def _metric(
    cells: Sequence[_Cell], table: Table, name: str, drop_missing: bool, faults: Faults
) -> tuple[NDArray[np.float64], list[_Cell]]:
    """Return the metric of the kept cells [n], minus the first one's value, and these cells.

    The difference is computed exactly, from decimals: a float would lose digits of 1000000000000.4.
    """
    values, kept = [], []
    for cell in cells:
        number = as_number(cell.text)
        if number is not None and isfinite(float(number)):
            values.append(number)
            kept.append(cell)
        # Mixed percent signs have been reported.
        elif cell.text.endswith("%"):
            continue
        elif cell.text not in ("", "NA"):
            why = why_no_number(cell.text)
            # Dropping a diverged run may hide what a choice does, so it takes two steps.
            how = "" if ";" in why else "; if the run has no result, leave the field empty"
            faults.add(why + how, table.lines[cell.row], cell.column)
        elif not drop_missing:
            content = "empty" if not cell.text else "NA"
            what = f"{content}; fill it in, or leave such rows out with --drop-missing"
            faults.add(what, table.lines[cell.row], cell.column)
    if not values and not faults:
        faults.add("no row has a value", column=name)
    y = np.array([float(value - values[0]) for value in values])
    spread = float(np.abs(y).max(initial=0))
    if spread > LARGEST or 0 < spread < SMALLEST:
        faults.add(f"values span {spread:.0e}; use another unit", column=name)
    return y, kept


def _check_levels(column: Sequence[str], name: str, baseline: str | None, faults: Faults) -> None:
    levels = order_levels(column)
    if len(levels) < 2:
        only = f"only one level, {levels[0]!r}" if levels else "empty in every row"
        how = "leave it out, or add rows with another level"
        if levels and (empty := sum(not text for text in column)):
            only = f"{only}, and {plural(empty, 'empty field')}"
            how = "an empty field means that the factor does not exist in that row; if it is a level, write a name such as none"
        faults.add(f"{only}; {how}", column=name)
    elif baseline is not None and match_level(baseline, levels) is None:
        shown = ", ".join(map(repr, levels[:10])) + (", …" if len(levels) > 10 else "")
        faults.add(f"the baseline {baseline!r} is not a level; the levels are {shown}", column=name)


def _averaged(runs: Runs) -> Runs:
    """Return one run for each combination and block: the mean of its rows."""
    assert runs.block is not None
    name, column = runs.block
    groups = sorted(
        crossings([*_coded(runs.factors).values(), *_coded({name: column}).values()]), key=lambda g: int(g[0])
    )
    if len(groups) == runs.rows:
        return runs
    sizes = sorted(len(rows) for rows in groups)
    each = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    note = (
        f"{runs.rows} rows are {plural(len(groups), 'run')}: the rows of one combination and one {name} are averaged "
        f"({each} each); --unit row counts each as a separate run"
    )
    first = [int(rows[0]) for rows in groups]
    widest = max(groups, key=lambda rows: np.ptp(runs.y[rows]))
    # If every run has the same number of rows, the repetition was planned.
    if sizes[0] != sizes[-1] and (spread := float(np.ptp(runs.y[widest]))):
        where = [*((factor, texts) for factor, texts in runs.factors.items()), runs.block]
        named = ", ".join(f"{factor} = {texts[int(widest[0])]}" for factor, texts in where)
        note += (
            f". Rows of one run differ by up to {spread:.4g} ({named}): look for duplicates, or for a factor that --factors "
            "leaves out"
        )
    return replace(
        runs,
        y=np.array([runs.y[rows].mean() for rows in groups]),
        factors={factor: [texts[i] for i in first] for factor, texts in runs.factors.items()},
        block=(name, [column[i] for i in first]),
        notes=[*runs.notes, note],
    )


def _missing(runs: Runs) -> list[str]:
    """Return notes on combinations of levels that have no row, and on those that lack a block."""
    levels = {name: order_levels(texts) for name, texts in runs.factors.items()}
    factors = _coded(runs.factors)
    where = conditions(list(factors.values()))
    explained = [
        name
        for name in factors
        if all(where.get(factor, {}) is not None for factor in (name, *(where.get(name) or {})))
    ]
    if not explained or prod(len(levels[name]) for name in explained) > MOST_COMBINATIONS:
        return []
    ran = list(zip(*(factors[name].index.tolist() for name in explained), strict=True))
    planned = _combinations([factors[name] for name in explained], where)

    def words(combination: Sequence[int]) -> str:
        return ", ".join(
            f"{name} = {levels[name][level]}"
            for name, level in zip(explained, combination, strict=True)
            if level >= 0
        )

    notes = []
    if absent := [combination for combination in planned if combination not in set(ran)]:
        notes.append(
            f"{len(absent)} of {len(planned)} combinations of levels {_have(len(absent))} no row: "
            f"{listed(map(words, absent), sep='; ')}"
        )
    if runs.block:
        name, column = runs.block
        blocks = order_levels(column)
        met = set(zip(ran, coded(name, column, blocks).index.tolist(), strict=True))
        pairs = [(combination, block) for combination in dict.fromkeys(ran) for block in range(len(blocks))]
        if lacking := [
            f"{words(combination)} in {name} {blocks[block]}"
            for combination, block in pairs
            if (combination, block) not in met
        ]:
            notes.append(
                f"{len(lacking)} of {len(pairs)} pairs of a combination and a {name} {_have(len(lacking))} no row: "
                f"{listed(lacking, sep='; ')}"
            )
    return notes


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _combinations(
    factors: Sequence[Factor], where: Mapping[str, Mapping[str, tuple[int, ...]] | None]
) -> list[tuple[int, ...]]:
    """Return every combination of levels once, with −1 for a factor that does not exist there."""
    names = [factor.name for factor in factors]

    def exists(name: str, levels: Mapping[str, int]) -> bool:
        return all(
            levels[parent] in met and exists(parent, levels)
            for parent, met in (where.get(name) or {}).items()
        )

    combinations = (
        dict(zip(names, levels, strict=True))
        for levels in product(*(range(factor.levels) for factor in factors))
    )
    return list(
        dict.fromkeys(
            tuple(levels[name] if exists(name, levels) else -1 for name in names) for levels in combinations
        )
    )


def _coded(columns: Mapping[str, Sequence[str]]) -> dict[str, Factor]:
    return {name: coded(name, texts, order_levels(texts)) for name, texts in columns.items()}
