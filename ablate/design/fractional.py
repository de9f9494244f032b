"""Fractional designs: the regular two-level fraction where there is one, a D-optimal subset elsewhere.

A regular fraction 2^(k−p) runs a full design in m = k − p base factors and sets each other factor to the
parity of some of them (Box, Hunter & Hunter, Statistics for Experimenters, ch. 6). Factors are columns: bit
masks over the base factors. A set of factors whose columns cancel is a *word*: its effect is aliased with
the mean. The resolution is the length of the shortest word, computed from the columns."""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import combinations
from math import comb
from operator import xor

from ablate.design.factorial import MAX_RAW_CELLS, Chosen, Space, raw_count
from ablate.errors import BadInput
from ablate.spec.designs import Fractional

MAX_OPTIMAL_CELLS = 2_000
# Columns tried per resolution; k <= 10 needs far fewer.
SEARCH_NODES = 5_000
# At most this many fractions of one resolution are compared, and this many sets of factors examined in all; the fraction with
# the fewest shortest words is kept.
COMPARED = 2_000
COMPARED_WORDS = 1_000_000
LISTED_EFFECTS = 2_000
# With more factors, their pairs are not examined.
MOST_EXAMINED = 40
# Resolution R: no effect of `a` factors is aliased with an effect of fewer than R − a factors.
ESTIMABLE = {
    3: "main effects, each aliased with interactions of two factors",
    4: "main effects; interactions of two factors are aliased with one another",
    5: "main effects and interactions of two factors",
}
BIASED = "main effects; interactions may bias them"


def fractional(space: Space) -> Chosen:
    """Return the study's fraction; the baseline is one of its cells.

    By default it has as many cells as the smallest fraction of resolution IV, even if it is not regular itself.

    Raises:
        BadInput: too few cells to estimate every main effect, or too many to choose from.
    """
    spec = space.spec
    regular = all(len(factor.levels) == 2 and not factor.only_when for factor in spec.factors)
    cells = (spec.design.cells if isinstance(spec.design, Fractional) else None) or default_cells(space)
    _refuse_too_few(space, cells)
    if regular and cells & (cells - 1) == 0:
        return _regular(space, min(cells.bit_length() - 1, len(spec.factors)))
    # Imported here since regular fractions do not need NumPy.
    from ablate.design.optimal import d_optimal, strongest_partial_aliases

    candidates = space.full()
    if cells >= len(candidates):
        return Chosen(candidates, BIASED)
    if cells > MAX_OPTIMAL_CELLS:
        raise BadInput(
            f"{_place(space)}: {cells:,}, more than {MAX_OPTIMAL_CELLS:,}; ask for fewer, or design: full"
        )
    chosen, efficiency = d_optimal(space, candidates, cells)
    warning = (
        f"D-optimal: {cells} of {len(candidates):,} valid cells, each with {efficiency:.0%} of the information on main "
        "effects that a cell of the full design has (D-efficiency); interactions bias the main effects"
    )
    if 1 < len(space.factors) <= MOST_EXAMINED:
        most = [
            f"{name} by {share:.2f} of {f} × {g}"
            for share, name, (f, g) in strongest_partial_aliases(space, chosen)
        ]
        warning += f". Largest biases: {', '.join(most[:3])}"
    return Chosen(chosen, BIASED, d_efficiency=efficiency, warnings=[warning])


def default_cells(space: Space) -> int:
    """Return the smallest power of two that holds two cells per factor and every main effect."""
    return 1 << (max(2 * len(space.factors), parameters(space)) - 1).bit_length()


def parameters(space: Space) -> int:
    """Return the number of coefficients of the main-effects model, the mean included."""
    return 1 + sum(len(factor.levels) - 1 for factor in space.spec.factors)


def columns(k: int, m: int) -> list[int]:
    """Return k columns over m base factors, of the highest resolution found and with few words of that length.

    The first m are the base factors themselves. Call `resolution` to get the resolution reached.
    """
    base = [1 << i for i in range(m)]
    if k == m:
        return base
    by_parity = sorted(range(1, 1 << m), key=lambda column: (column.bit_count() % 2 == 0, column))
    choices = [column for column in by_parity if column.bit_count() > 1]
    longest_first = sorted(choices, key=lambda column: -column.bit_count())
    for target in (length for length in range(m + 1, 2, -1) if _possible(k, m, length)):
        most = min(COMPARED, COMPARED_WORDS // comb(k, target))
        # Trying odd sums first gives resolution IV at once for any k; trying long sums first gives fewer shortest words.
        fractions = _completions(base, choices, k, target, most)
        if most > 1:
            fractions += _completions(base, longest_first, k, target, most)
        if fractions:
            return min(fractions, key=lambda f: _words(f, target)) if len(fractions) > 1 else fractions[0]
    raise AssertionError("distinct columns have resolution III")


def resolution(masks: Sequence[int]) -> int | None:
    """Return the length of the shortest word of the columns; None when there is no word."""
    shortest = None
    sums: list[set[int]] = [{0}, *(set() for _ in masks)]  # sums[s]: what s of the columns so far add up to
    for column in masks:
        length = next((s + 1 for s, reached in enumerate(sums) if column in reached), None)
        if length and (shortest is None or length < shortest):
            shortest = length
            # Longer words no longer matter.
            del sums[shortest:]
        sums = _with(sums, column)
    return shortest


def aliases(masks: Sequence[int], names: Sequence[str], longest: int) -> list[list[str]]:
    """Return each chain of aliased effects of up to `longest` factors.

    Effects without an alias are left out. The words themselves, if they have so few factors, come last, after "mean".
    """
    chains: dict[int, list[str]] = {}
    for size in range(1, longest + 1):
        for members in combinations(range(len(masks)), size):
            column = reduce(xor, (masks[i] for i in members))
            chains.setdefault(column, []).append(":".join(names[i] for i in members))
    words = chains.pop(0, [])
    return [chain for chain in chains.values() if len(chain) > 1] + ([["mean", *words]] if words else [])


def _longest_listed(k: int, reached: int) -> int:
    """Return the most factors that a listed effect may have, so that all aliases of main effects are listed."""
    sizes = range(2, reached)
    return max((s for s in sizes if sum(comb(k, i) for i in range(1, s + 1)) <= LISTED_EFFECTS), default=2)


def _regular(space: Space, m: int) -> Chosen:
    factors = space.spec.factors
    if 1 << m > MAX_RAW_CELLS:
        raise BadInput(f"{_place(space)}: {1 << m:,} is more than {MAX_RAW_CELLS:,}; ask for fewer")
    masks = columns(len(factors), m)
    reached = resolution(masks)
    names = [factor.name for factor in factors]
    baseline = space.baseline()
    chosen = []
    for run in range(1 << m):
        # Levels are counted from the baseline's, so that the baseline is a cell of the fraction.
        switched = [(run & column).bit_count() & 1 for column in masks]
        chosen.append({name: baseline[name] ^ bit for name, bit in zip(names, switched, strict=True)})
    chosen.sort(key=lambda one: list(one.values()))
    chains = aliases(masks, names, _longest_listed(len(masks), reached)) if reached else []
    variance = 4 / len(chosen) if reached else None
    return Chosen(
        chosen, ESTIMABLE.get(reached, ESTIMABLE[5]) if reached else BIASED, variance, reached, chains
    )


def _possible(k: int, m: int, length: int) -> bool:
    """Return whether the Hamming bound allows k columns over m base factors without a shorter word."""
    halves = (length - 1) // 2
    if length % 2:
        return sum(comb(k, i) for i in range(halves + 1)) <= 1 << m
    return sum(comb(k - 1, i) for i in range(halves + 1)) <= 1 << (m - 1)


def _completions(base: list[int], choices: Sequence[int], k: int, target: int, most: int) -> list[list[int]]:
    """Return up to `most` ways to complete `base` to k columns without a word shorter than `target`."""
    completed: list[list[int]] = []
    nodes = 0

    def grow(chosen: list[int], start: int, sums: list[set[int]]) -> Iterator[list[int]]:
        nonlocal nodes
        if len(chosen) == k:
            yield chosen
            return
        for index in range(start, len(choices) - (k - len(chosen)) + 1):
            nodes += 1
            if nodes > SEARCH_NODES:
                return
            column = choices[index]
            if all(column not in reached for reached in sums):
                yield from grow([*chosen, column], index + 1, _with(sums, column))

    sums = [{0}] + [set() for _ in range(target - 2)]  # sums[s]: the sums of s columns, s < target - 1
    for column in base:
        sums = _with(sums, column)
    for fraction in grow(base, 0, sums):
        completed.append(fraction)
        # Checked after adding, so a `most` of 0 still gives one.
        if len(completed) >= most:
            break
    return completed


def _with(sums: list[set[int]], column: int) -> list[set[int]]:
    return [sums[0], *(sums[s] | {column ^ smaller for smaller in sums[s - 1]} for s in range(1, len(sums)))]


def _words(masks: Sequence[int], length: int) -> int:
    return sum(reduce(xor, word) == 0 for word in combinations(masks, length))


def _refuse_too_few(space: Space, cells: int) -> None:
    needed = parameters(space)
    if cells < needed and cells < raw_count(space.spec.factors):
        raise BadInput(
            f"{_place(space)}: {cells} cells cannot estimate the main effects of these factors; "
            f"write at least {needed}, e.g. {default_cells(space)}"
        )


def _place(space: Space) -> str:
    return f"{space.spec.place('design')}: design.cells"
