"""Group sequential tests: what each look may claim, so that all looks together keep the type I error rate.

A comparison is tested at information fractions t_1 < t_2 < … = 1. The spending function is Lan and DeMets' of the
O'Brien-Fleming type (Biometrika 1983, 70, 659-663): it spends almost no alpha at first and most of it at the end.
The boundaries are two-sided and symmetric. They come from recursive numerical integration over the estimates that
have not crossed a boundary yet (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000, Group Sequential
Methods, ch. 19).

Each look compares its own p, from any test that is valid for a few seeds, with the *nominal level* of its boundary
(Jennison & Turnbull, § 11.4, the significance level approach). Fractions are multiples of RESOLUTION, so that every
database gives the same ones.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]

ALPHA = 0.05
# Equivalence is two one-sided tests at ALPHA each: a two-sided interval at twice that.
EQUIVALENCE_ALPHA = 2 * ALPHA
# A comparison is futile if its predictive probability of a verdict at the end is below this.
FUTILE_BELOW = 0.1
RESOLUTION = 0.01  # of an information fraction
SMALLEST_P = 1e-12  # a smaller sequential p is reported as this
_FAR_SDS = 9.0  # less than 1e-18 of a normal distribution lies beyond
_TABLE_SIZE = 48
_NEWTON_STEPS = 12


def nominal_levels(fractions: Sequence[float], alpha: float = ALPHA) -> Array:
    """Return the two-sided p below which each look rejects, for an overall `alpha`: [looks].

    Args:
        fractions: Increasing, in (0, 1]. The looks so far suffice, since no boundary depends on later looks.
        alpha: Two-sided, in (0, 1].
    """
    return _levels(tuple(fractions), alpha)


def sequential_p(p: Sequence[float | None], fractions: Sequence[float]) -> float | None:
    """Return the smallest alpha at which one of the looks so far rejects; None if no look has a p.

    `p` and `fractions` are [looks]. This sequential p value can enter Holm's procedure, at any look: Maurer &
    Bretz 2013, Stat. Biopharm. Res. 5, 311-320; Liu & Anderson 2008, J. Am. Stat. Assoc. 103, 1621-1630.
    """
    normals, boundaries = _table(tuple(fractions))
    alphas = []
    for p_of_look, of_look in zip(p, boundaries, strict=True):
        if p_of_look is not None:
            # 1e-300: the normal quantile of 0 is infinite.
            boundary = -float(special.ndtri(max(p_of_look, 1e-300) / 2))
            within = float(np.clip(boundary, of_look[0], of_look[-1]))
            alphas.append(4 * float(special.ndtr(-PchipInterpolator(of_look, normals)(within))))
    return max(min(alphas), SMALLEST_P) if alphas else None


def next_fraction(before: Sequence[float], share: float, looks: int) -> float:
    """Return the information fraction of the look after those at `before`, of `looks` in total.

    `share` is the fraction that the data suggest. It may be below an earlier look's, or leave no room for the looks
    to come. The result still rises by at least RESOLUTION, and reaches 1 at the final look and no sooner. Alpha that has
    been spent is not given back.
    """
    left = looks - len(before) - 1
    if left <= 0:
        return 1.0
    least = round(before[-1] / RESOLUTION) + 1 if before else 1
    most = round(1 / RESOLUTION) - left
    suggested = math.floor(share / RESOLUTION + 1e-9)
    return max(min(max(suggested, least), most), least) * RESOLUTION


def share_of_information(v_seed: float, v_item: float, seeds: int, at_most: int) -> float:
    """Return the information from `seeds` as a share of that from `at_most`, conservatively if items contribute.

    A variance that is small by chance over few seeds makes both the p small and the share large, and so spends most
    alpha on a lucky estimate: of simulated null studies that start with three seeds, .064 claimed an effect. So the
    upper 90 % confidence bound of the seed variance is used instead. It changes little if items contribute none of the
    variance, or most of it.

    Args:
        v_seed: Variance of the estimate due to the current seeds; falls as seeds are added.
        v_item: Variance of the estimate due to the items, the same for every seed; stays as it is.
    """
    if seeds < 2 or v_seed + v_item <= 0:
        return seeds / at_most
    bound = v_seed * (seeds - 1) / float(special.chdtri(seeds - 1, 0.9))
    return (bound * seeds / at_most + v_item) / (bound + v_item)


def chance_at_the_end(
    estimate: ArrayLike, variance: float, at_end: float, df: float, beyond: float, within: float
) -> Array:
    """Return the predictive probability that the final estimate is outside ± `beyond` or inside ± `within`.

    The effect has a flat prior: the final estimate has a t distribution on `df` degrees of freedom around the current
    `estimate`, and its variance is `variance` (of the current estimate) minus `at_end` (of the final one). Source:
    Spiegelhalter, Freedman & Blackburn 1986, Controlled Clinical Trials 7, 8-17; Jennison & Turnbull 2000, ch. 10.
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
    """Return the probability of stopping at each look [looks], and of claiming an effect on stopping.

    `variances` [looks] are those of the estimate and `effect` is its mean. `stops(look, estimates)` and `claims(look,
    estimates)` return which estimates make a look stop or claim; the final look always stops. Increments of
    information are independent (Jennison & Turnbull 2000, § 3.1), and are integrated on a grid.
    """
    information = [1 / v for v in variances]
    # Limits of the grid of the score, which is estimate × information.
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
    """Return the normal quantile in the spending function, that of alpha / 4: half of alpha / 2 per side."""
    return -float(special.ndtri(alpha / 4))


def _spent_on_a_side(normals: Array, fraction: float) -> Array:
    return np.asarray(2 * special.ndtr(-normals / math.sqrt(fraction)))


@functools.lru_cache(maxsize=4096)
def _levels(fractions: tuple[float, ...], alpha: float) -> Array:
    boundaries = _boundaries(fractions, np.array([_normal_of(alpha)]))
    return np.asarray(2 * special.ndtr(-boundaries[:, 0]))


@functools.lru_cache(maxsize=4096)
def _table(fractions: tuple[float, ...]) -> tuple[Array, Array]:
    """Return a grid of overall alphas, each as its `_normal_of`, and their boundaries [looks, alphas]."""
    normals = np.linspace(_normal_of(1.0), _normal_of(SMALLEST_P), _TABLE_SIZE)
    return normals, _boundaries(fractions, normals)


def _boundaries(fractions: tuple[float, ...], normals: Array) -> Array:
    """Return two-sided boundaries [looks, alphas], in standard deviations.

    By symmetry only the nodes above 0 are kept, [alphas, nodes]; each also stands for its mirror image.
    """
    boundaries: list[Array] = []
    nodes, going = np.zeros((len(normals), 1)), np.full((len(normals), 1), 0.5)
    before, spent_before = 0.0, np.zeros(len(normals))
    for fraction in fractions:
        sd = math.sqrt(fraction - before)
        spent_now = _spent_on_a_side(normals, fraction)
        crossed = _crossing(nodes, going, math.sqrt(fraction), sd, spent_now - spent_before)
        boundaries.append(crossed)
        if len(boundaries) < len(fractions):
            far = np.minimum(crossed, _FAR_SDS) * math.sqrt(fraction)
            nodes, going = _carried(nodes, going, far, sd, _nodes_for(far, fractions, fraction))
        before, spent_before = fraction, spent_now
    return np.array(boundaries)


def _crossing(nodes: Array, going: Array, root: float, sd: float, spend: Array) -> Array:
    """Return the boundary [alphas] that is first crossed, upwards, at this look with probability `spend`.

    Newton's method on the logarithm of that probability, which is concave: from above it descends to the root.
    """
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
    """Return Gauss-Legendre nodes from 0 to `far` and the probability of each, both [alphas, nodes]."""
    at, weights = np.polynomial.legendre.leggauss(count)
    inside = far[:, None] * (at + 1) / 2
    kernel = np.zeros((len(far), count, nodes.shape[1]))
    for mirrored in (nodes, -nodes):
        kernel += np.exp(-(((inside[:, :, None] - mirrored[:, None, :]) / sd) ** 2) / 2)
    density = np.einsum("anm,am->an", kernel, going) / (sd * math.sqrt(2 * math.pi))
    return inside, density * far[:, None] / 2 * weights


def _nodes_for(far: Array, fractions: tuple[float, ...], fraction: float) -> int:
    """Return how many nodes keep even the widest gap, in the middle, below the sd of the next step."""
    following = next(later for later in fractions if later > fraction)
    return min(30 + math.ceil(math.pi / 2 * float(far.max()) / math.sqrt(following - fraction)), 200)
