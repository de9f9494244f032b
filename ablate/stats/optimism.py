"""How good the best of several equal things looks."""

import numpy as np
from scipy import special


def expected_best(k: int, sigma: float = 1.0) -> float:
    """Return by how much the best of `k` equal cells is expected to beat the truth.

    `sigma` is the standard deviation of a cell's mean. E[max] of k standard normals, by
    quadrature. Source: Tippett 1925, Biometrika 17, 364-387.
    """
    x = np.linspace(-9, 9, 4001)
    density = k * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * special.ndtr(x) ** (k - 1)
    return sigma * float(np.trapezoid(x * density, x))
