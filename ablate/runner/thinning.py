"""Long curves in little space."""

from collections import Counter
from collections.abc import Mapping

WHOLE = 10_000  # the first points of a curve, which are all kept


class Thinning:
    """Chooses the points of each curve that are kept: all of the first 10,000, every second of the next 10,000, every fourth of
    the 20,000 after them, and so on: 5,000 more each time a curve doubles in length.

    The choice depends only on how many points came before, so that resumed training keeps the same ones.

    Attributes:
        seen: curve -> its points so far, kept or not.
    """

    def __init__(self, seen: Mapping[str, int]) -> None:
        self.seen = Counter(seen)

    def keeps(self, curve: str) -> bool:
        """Count one more point of a curve, and return whether to keep it."""
        before = self.seen[curve]
        self.seen[curve] += 1
        return before % (1 << (before // WHOLE).bit_length()) == 0
