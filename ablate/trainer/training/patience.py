"""Early stopping: a stage of training ends after a given number
of evaluations in a row without a better score (Prechelt 1998)."""


class Patience:
    """Counts evaluations since the best one.

    Args:
        evaluations: how many without improvement end the stage; 0: never stop early.
    """

    def __init__(self, evaluations: int) -> None:
        self._evaluations = evaluations
        self._best: float | None = None
        self._since_best = 0

    def see(self, score: float) -> None:
        """Count an evaluation. Equal to the best is not better."""
        if self._best is None or score > self._best:
            self._best, self._since_best = score, 0
        else:
            self._since_best += 1

    @property
    def is_exhausted(self) -> bool:
        """Whether the stage should end."""
        return 0 < self._evaluations <= self._since_best

    def state(self) -> dict[str, float | None]:
        """Return what `restore` needs to continue from here."""
        return {"best": self._best, "since_best": self._since_best}

    def restore(self, state: dict[str, float | None]) -> None:
        """Continue from where `state` was taken."""
        self._best, self._since_best = state["best"], int(state["since_best"] or 0)
