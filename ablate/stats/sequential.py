"""Looking at results before the end: what each look may claim, so that all looks together err as often as one would.

A comparison is looked at when fractions t_1 < t_2 < … = 1 of its final information are there. Alpha is spent by the function of
Lan & DeMets 1983 (Biometrika 70, 659-663) that resembles O'Brien and Fleming's boundaries: almost nothing at first, most of it
at the end. Boundaries come from recursive numerical integration over the estimates that have not crossed yet (Armitage,
McPherson & Rowe 1969; Jennison & Turnbull 2000, Group Sequential Methods, ch. 19): two-sided, and symmetric.

A look compares its own p, from whatever test suits a few seeds, with the *nominal level* of its boundary (Jennison & Turnbull,
§ 11.4, the significance level approach). Fractions are multiples of RESOLUTION, so that any store gives the same ones."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]

ALPHA = 0.05
EQUIVALENCE_ALPHA = 2 * ALPHA  # of a two-sided interval: each of the two one-sided tests has ALPHA
FUTILE_BELOW = 0.1  # chance of a verdict at the end
RESOLUTION = 0.01  # of an information fraction
SMALLEST_P = 1e-12  # of a sequential p: smaller ones are given as this
_FAR_SDS = 9.0  # beyond lies less than 1e-18 of a normal distribution
_TABLE_SIZE = 48
_NEWTON_STEPS = 12


def spent(alpha: float, fraction: float) -> float:
    """Return how much of a two-sided `alpha` may be spent until `fraction` of the information is there."""
    return 2 * float(_spent_on_a_side(np.array(_normal_of(alpha)), fraction))


def nominal_levels(fractions: Sequence[float], alpha: float = ALPHA) -> Array:
    """Return for each look the two-sided p below which it rejects at an overall `alpha`: [looks].

    Args:
        fractions: Rising, in (0, 1]; the looks taken so far suffice, as no boundary depends on later ones.
        alpha: Two-sided, in (0, 1].
    """
    return _levels(tuple(fractions), alpha)


def sequential_p(p: Sequence[float | None], fractions: Sequence[float]) -> float | None:
    """Return the smallest alpha at which some look so far rejects; None where no look has a p.

    `p` and `fractions` are [looks]. Like any p it may go into Holm's procedure, at any look: Maurer & Bretz 2013,
    Stat. Biopharm. Res. 5, 311-320; Liu & Anderson 2008, J. Am. Stat. Assoc. 103, 1621-1630.
    """
    normals, boundaries = _table(tuple(fractions))
    found = []
    for seen, of_look in zip(p, boundaries, strict=True):
        if seen is not None:
            boundary = -float(special.ndtri(max(seen, 1e-300) / 2))
            within = float(np.clip(boundary, of_look[0], of_look[-1]))
            found.append(4 * float(special.ndtr(-PchipInterpolator(of_look, normals)(within))))
    return max(min(found), SMALLEST_P) if found else None


def next_fraction(before: Sequence[float], share: float, looks: int) -> float:
    """Return the information fraction of the look that comes after those at `before`, of `looks` in all.

    `share` is what the data say, which may be less than at an earlier look, or more than is left: the fraction rises all
    the same, by RESOLUTION at least, and comes to 1 at the last look and not sooner. What was spent stays spent.
    """
    left = looks - len(before) - 1
    if left <= 0:
        return 1.0
    least = round(before[-1] / RESOLUTION) + 1 if before else 1
    most = round(1 / RESOLUTION) - left
    wanted = math.floor(share / RESOLUTION + 1e-9)
    return max(min(max(wanted, least), most), least) * RESOLUTION


def share_of_information(v_seed: float, v_item: float, seeds: int, at_most: int) -> float:
    """Return the information that `seeds` give of what `at_most` will give, cautiously where items are in it.

    A variance over few seeds that is small by luck would make both p small and the share large, and so spend most where the
    luck is: .064 of simulated studies of nothing claimed something, of three seeds at first. The upper 90 % bound of the
    seeds' variance stands in for it; where items have no share, or the greatest, that changes little.

    Args:
        v_seed: Variance of the estimate that is due to the seeds there are; it falls as they become more.
        v_item: Variance of the estimate that is due to the items, which are the same for every seed: it stays.
    """
    if seeds < 2 or v_seed + v_item <= 0:
        return seeds / at_most
    bound = v_seed * (seeds - 1) / float(special.chdtri(seeds - 1, 0.9))
    return (bound * seeds / at_most + v_item) / (bound + v_item)


def chance_at_the_end(
    estimate: ArrayLike, variance: float, at_end: float, df: float, beyond: float, within: float
) -> Array:
    """Return the probability that the estimate will be outside ± `beyond`, or inside ± `within`, at the end.

    Predictive: nothing is assumed of the effect but what the data say, so that the estimate at the end has a t distribution
    on `df` degrees of freedom around that of now, and a variance of `variance` (now) less `at_end`. Source: Spiegelhalter,
    Freedman & Blackburn 1986, Controlled Clinical Trials 7, 8-17; Jennison & Turnbull 2000, ch. 10.
    """
    spread = math.sqrt(max(variance - at_end, 1e-300))

    def below(bound: float) -> Array:
        return np.asarray(special.stdtr(df, (bound - np.asarray(estimate)) / spread))

    outside = below(-beyond) + 1 - below(beyond)
    inside = below(within) - below(-within) if within > 0 else 0.0
    return np.asarray(np.minimum(outside + inside, 1.0))


def stopping(
    variances: Sequence[float],
    effect: float,
    stops: Callable[[int, Array], NDArray[np.bool_]],
    claims: Callable[[int, Array], NDArray[np.bool_]],
) -> tuple[Array, float]:
    """Return the probability of stopping at each look [looks], and of claiming an effect when it stops.

    `variances` are the estimate's at each look, `effect` is its mean; `stops(look, estimates)` and `claims` say at which
    estimates a look does; the last stops in any case. Independent increments of information (Jennison & Turnbull 2000,
    § 3.1), summed on a grid.
    """
    information = [1 / v for v in variances]
    # Of the score, which is estimate × information.
    reach = [math.sqrt(i) * _FAR_SDS + abs(effect) * i for i in information]
    going, at, before, stopped, claimed = np.ones(1), np.zeros(1), 0.0, [], []
    for look, (i, far) in enumerate(zip(information, reach, strict=True)):
        score = np.linspace(-far, far, 601)
        step, sd = score[1] - score[0], math.sqrt(i - before)
        density = np.exp(-(((score[:, None] - at - effect * (i - before)) / sd) ** 2) / 2) @ going
        density *= step / sd / math.sqrt(2 * math.pi)
        last = look == len(information) - 1
        ends = np.ones(len(score), dtype=bool) if last else stops(look, score / i)
        stopped.append(float(density[ends].sum()))
        claimed.append(float(density[ends & claims(look, score / i)].sum()))
        going, at, before = np.where(ends, 0.0, density), score, i
    return np.array(stopped) / sum(stopped), sum(claimed) / sum(stopped)


def _normal_of(alpha: float) -> float:
    """What the spending function is made of: half of alpha on either side, and the quantile of half of that."""
    return -float(special.ndtri(alpha / 4))


def _spent_on_a_side(normals: Array, fraction: float) -> Array:
    return np.asarray(2 * special.ndtr(-normals / math.sqrt(fraction)))


@functools.lru_cache(maxsize=4096)
def _levels(fractions: tuple[float, ...], alpha: float) -> Array:
    boundaries = _boundaries(fractions, np.array([_normal_of(alpha)]))
    return np.asarray(2 * special.ndtr(-boundaries[:, 0]))


@functools.lru_cache(maxsize=4096)
def _table(fractions: tuple[float, ...]) -> tuple[Array, Array]:
    """Return a range of overall alphas, as `_normal_of` them, and their boundaries [looks, alphas]."""
    normals = np.linspace(_normal_of(1.0), _normal_of(SMALLEST_P), _TABLE_SIZE)
    return normals, _boundaries(fractions, normals)


def _boundaries(fractions: tuple[float, ...], normals: Array) -> Array:
    """Return [looks, alphas] of two-sided boundaries, in standard deviations.

    All is symmetric: nodes [alphas, nodes] are those above 0, and stand for their mirror images too."""
    found: list[Array] = []
    nodes, going = np.zeros((len(normals), 1)), np.full((len(normals), 1), 0.5)
    before, spent_before = 0.0, np.zeros(len(normals))
    for fraction in fractions:
        sd = math.sqrt(fraction - before)
        spent_now = _spent_on_a_side(normals, fraction)
        crossed = _crossing(nodes, going, math.sqrt(fraction), sd, spent_now - spent_before)
        found.append(crossed)
        if len(found) < len(fractions):
            far = np.minimum(crossed, _FAR_SDS) * math.sqrt(fraction)
            nodes, going = _carried(nodes, going, far, sd, _nodes_for(far, fractions, fraction))
        before, spent_before = fraction, spent_now
    return np.array(found)


def _crossing(nodes: Array, going: Array, root: float, sd: float, spend: Array) -> Array:
    """Return the boundary [alphas] that `spend` of those still going exceed.

    Newton's method on the logarithm of how many exceed it, which is concave: from above it comes down to the answer."""
    boundary = -special.ndtri(np.maximum(spend, 1e-300))
    for _ in range(_NEWTON_STEPS):
        beyond = slope = 0.0
        for mirrored in (nodes, -nodes):
            sds = (mirrored - boundary[:, None] * root) / sd
            beyond = beyond + (going * special.ndtr(sds)).sum(axis=1)
            slope = slope + (going * np.exp(-(sds**2) / 2)).sum(axis=1) * root / sd / math.sqrt(2 * math.pi)
        beyond = np.maximum(beyond, 1e-300)
        boundary = boundary + beyond * np.log(beyond / np.maximum(spend, 1e-300)) / np.maximum(slope, 1e-300)
        boundary = np.maximum(boundary, 0.0)
    return np.asarray(boundary)


def _carried(nodes: Array, going: Array, far: Array, sd: float, count: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes from 0 to `far`, and what of the probability that is still going each stands for."""
    at, weights = np.polynomial.legendre.leggauss(count)
    inside = far[:, None] * (at + 1) / 2
    kernel = np.zeros((len(far), count, nodes.shape[1]))
    for mirrored in (nodes, -nodes):
        kernel += np.exp(-(((inside[:, :, None] - mirrored[:, None, :]) / sd) ** 2) / 2)
    density = np.einsum("anm,am->an", kernel, going) / (sd * math.sqrt(2 * math.pi))
    return inside, density * far[:, None] / 2 * weights


def _nodes_for(far: Array, fractions: tuple[float, ...], fraction: float) -> int:
    """Nodes must be closer, in the middle too, than the standard deviation of the next step."""
    following = next(later for later in fractions if later > fraction)
    return min(30 + math.ceil(math.pi / 2 * float(far.max()) / math.sqrt(following - fraction)), 200)
