"""What a store says, as arrays: which cells are compared, their differences by seed and item, and how sure they are.

frames          results as arrays [cells, seeds] and as a tidy table
contrasts       which cells are compared with which; pairs: two cells; predictions: item by item
ranges          the worst and the best that a metric can be
estimates       difference -> interval, p, verdict; models: least squares over all cells
mixing          what the effects of a fraction are mixed with; noise: how much a metric moves by itself
diverged        runs that ended far from what their cell gives otherwise
"""
