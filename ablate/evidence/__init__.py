"""What a store says, as arrays: which cells are compared, their differences by seed and item, and how sure they are.

frames, predictions     results as arrays [cells, seeds], as a tidy table, and item by item
contrasts, items        which cells are compared with which, seed by seed and item by item
effects, verdicts       a factor's effects, their intervals and p; what may be said of them
interactions, models    how effects depend on one another; least squares over all cells
mixing, noise           what the effects of a fraction are mixed with; how much a metric moves by itself
looks, ranges, diverged looks at the results while seeds are added; what a metric can be; runs that diverged
"""
