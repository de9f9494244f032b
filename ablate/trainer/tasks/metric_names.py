"""Which metrics each kind of task has, the first as the default. Their functions are in `metrics.py`, which loads torch."""

OF_CLASSES = ("accuracy", "macro_f1", "mcc")
OF_NUMBERS = ("pearson", "spearman", "r2")
OF_SEVERAL_LABELS = ("macro_f1", "accuracy")
CORRELATIONS = ("mcc", "pearson", "spearman")  # from -1 to 1
