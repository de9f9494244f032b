"""From the store to evidence, as arrays: which cells are compared, their differences by seed and item, and their errors.

frames, predictions     results as arrays [cells, seeds], as a tidy table, and item by item
contrasts, items        which cells are compared with which, seed by seed and item by item
effects, verdicts       a factor's effects, their intervals and p; the conclusions they allow
interactions, models    how effects depend on one another; least squares over all cells
mixing, noise           interactions that bias the effects of a fraction; how much a metric varies by itself
looks, ranges, diverged looks at the results while seeds are added; possible values of a metric; runs that diverged
"""
