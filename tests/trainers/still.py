"""A trainer that trains nothing, or for `seconds`, and reports as much as a real one does: what is left is our own cost."""

import time

from pydantic import BaseModel

from ablate.contract import Context

POINTS, VALUES = 4, 30


class Settings(BaseModel, extra="forbid"):
    """What the benchmark varies."""

    width: int = 0
    depth: int = 0
    seconds: float = 0.0


def train(settings: Settings, context: Context) -> dict[str, float]:
    time.sleep(settings.seconds)
    for step in range(POINTS):
        context.report(step, {"dev/0": step / POINTS})
    return {f"dev/{number}": settings.width + number / VALUES for number in range(VALUES)}
