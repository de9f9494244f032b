"""Turn stored trials into estimates: which cells are compared, by how much they differ, and how certain that is.

frames, predictions     results as arrays [cells, seeds], as a tidy table, and item by item
contrasts, items        which cells are compared with which, seed by seed and item by item
effects, verdicts       a factor's effects, their intervals and p; the conclusions they allow
interactions, models    how the effect of one factor depends on another; least squares over all cells
aliasing, noise         interactions that bias the effects of a fractional design; how much a metric varies by chance
looks, ranges, diverged looks at the results while seeds are added; possible values of a metric; runs that diverged
"""
