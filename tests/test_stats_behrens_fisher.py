"""The Behrens-Fisher distribution against independent numerical integration.

Computed in R 4.2.2: 2 ∫ f_ν1(x) P(T_ν2 > (t − √share · x) / √(1 − share)) dx by `integrate` (rel.tol 1e-12) in pieces over
x = tan(u), with `dt` and `pt`. A second computation, which inverts the product of the two characteristic functions (Gil-Pelaez
1951; Bessel K), agrees with all of it to 2e-14.
"""

import math

import pytest

from ablate.stats.behrens_fisher import critical, two_sided_p

# t, share, ν1, ν2, p
P_VALUES = [
    (0.5, 0.5, 1, 3, 7.4086726814e-01),
    (2, 0.1, 1, 12.5, 1.7048496728e-01),
    (4, 0.5, 1, 40, 1.1526951820e-01),
    (8, 0.9, 1, math.inf, 7.5258126606e-02),
    (2.5, 0.3, 1, math.inf, 1.5842734720e-01),
    (8, 0.1, 1, 3, 2.9554442625e-02),
    (0.5, 0.9, 2, 3, 6.8559440168e-01),
    (2, 0.5, 2, 12.5, 1.5099714116e-01),
    (2.5, 0.3, 2, 40, 6.9473495702e-02),
    (4, 0.1, 2, math.inf, 7.7321657311e-03),
    (8, 0.5, 2, math.inf, 7.9052236207e-03),
    (4, 0.9, 2, 3, 5.5261657457e-02),
    (2.5, 0.9, 2, 12.5, 1.2348941583e-01),
    (2, 0.3, 4, 3, 1.4425192269e-01),
    (2.5, 0.5, 4, 12.5, 4.7911363298e-02),
    (4, 0.9, 4, 40, 1.4158388460e-02),
    (8, 0.3, 4, 12.5, 1.4812237185e-04),
    (4, 0.5, 4, math.inf, 6.4177320252e-03),
    (8, 0.1, 4, math.inf, 1.6865807009e-05),
    (0.5, 0.1, 9, 40, 6.2436056102e-01),
    (2, 0.9, 9, math.inf, 7.3685220953e-02),
    (2.5, 0.1, 9, 3, 8.3438967032e-02),
    (4, 0.5, 9, 12.5, 1.3956665544e-03),
    (8, 0.9, 9, 40, 1.5389713969e-05),
    (8, 0.5, 9, math.inf, 1.7692393135e-06),
    (2.5, 0.5, 9, math.inf, 2.2080181747e-02),
]
# alpha, share, ν1, ν2, critical |t|
CRITICAL_VALUES = [
    (0.05, 0.5, 1, 3, 9.303117),
    (0.05, 0.9, 1, math.inf, 12.062415),
    (0.01, 0.3, 1, 40, 34.887376),
    (0.05, 0.1, 2, math.inf, 2.298735),
    (0.05, 0.5, 2, 40, 3.292602),
    (0.01, 0.9, 2, 12.5, 9.434179),
    (0.001, 0.5, 2, math.inf, 22.377447),
    (0.05, 0.3, 4, 12.5, 2.357036),
    (0.01, 0.5, 4, math.inf, 3.592376),
    (0.001, 0.9, 4, 40, 8.199112),
    (0.1, 0.5, 4, 3, 2.331149),
    (0.05, 0.9, 9, 3, 2.379280),
    (0.001, 0.1, 9, math.inf, 3.358858),
]
# In the layout of Sukhatme 1938, Sankhyā 4, 39-48 (Fisher & Yates, Statistical Tables, VI): d = t1 sin θ − t2 cos θ.
# ν1, ν2 -> the 5 % and the 1 % points at θ = 15°, 30°, 45°, 60°, 75°.
PERCENTAGE_POINTS = {
    (6, 6): ((2.440, 2.435, 2.436, 2.435, 2.440), (3.654, 3.556, 3.514, 3.556, 3.654)),
    (6, 8): ((2.310, 2.331, 2.364, 2.398, 2.431), (3.328, 3.308, 3.363, 3.496, 3.644)),
    (6, 12): ((2.193, 2.239, 2.301, 2.367, 2.423), (3.053, 3.104, 3.246, 3.453, 3.637)),
    (6, 24): ((2.088, 2.156, 2.247, 2.342, 2.418), (2.822, 2.938, 3.158, 3.424, 3.631)),
    (6, math.inf): ((1.993, 2.082, 2.201, 2.322, 2.413), (2.627, 2.804, 3.093, 3.402, 3.627)),
    (8, 8): ((2.300, 2.294, 2.292, 2.294, 2.300), (3.316, 3.241, 3.206, 3.241, 3.316)),
    (12, 12): ((2.175, 2.169, 2.167, 2.169, 2.175), (3.029, 2.978, 2.954, 2.978, 3.029)),
    (24, math.inf): ((1.966, 1.983, 2.009, 2.035, 2.056), (2.584, 2.613, 2.664, 2.726, 2.777)),
}


@pytest.mark.parametrize(("t", "share", "df_seed", "df_item", "p"), P_VALUES)
def test_two_sided_p_is_that_of_numerical_integration(
    t: float, share: float, df_seed: int, df_item: float, p: float
) -> None:
    assert two_sided_p(t, share, df_seed, df_item) == pytest.approx(p, rel=1e-7)
    assert two_sided_p(-t, share, df_seed, df_item) == pytest.approx(p, rel=1e-7)


@pytest.mark.parametrize(("t", "share", "df_seed", "df_item", "p"), P_VALUES[:6])
def test_the_two_sources_may_change_places(
    t: float, share: float, df_seed: int, df_item: float, p: float
) -> None:
    assert two_sided_p(t, 1 - share, df_item, df_seed) == pytest.approx(p, rel=1e-7)


@pytest.mark.parametrize(("alpha", "share", "df_seed", "df_item", "t"), CRITICAL_VALUES)
def test_critical_value_is_that_of_numerical_integration(
    alpha: float, share: float, df_seed: int, df_item: float, t: float
) -> None:
    assert critical(alpha, share, df_seed, df_item) == pytest.approx(t, rel=1e-6)


@pytest.mark.parametrize(("dfs", "points"), PERCENTAGE_POINTS.items())
def test_percentage_points_by_angle(
    dfs: tuple[int, float], points: tuple[tuple[float, ...], tuple[float, ...]]
) -> None:
    for alpha, row in zip((0.05, 0.01), points, strict=True):
        angles = (math.radians(degrees) for degrees in (15, 30, 45, 60, 75))
        found = [critical(alpha, math.sin(angle) ** 2, *dfs) for angle in angles]
        assert found == pytest.approx(row, abs=6e-4)
