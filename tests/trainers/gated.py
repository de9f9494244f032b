"""A trainer that goes on, step by step, until somebody puts a file named `go` beside the study."""

import time
from pathlib import Path

from pydantic import BaseModel

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    """What the tests vary."""

    slope: float = 1.0


def train(settings: Settings, context: Context) -> dict[str, float]:
    step = (context.restore() or {"step": 0})["step"]
    while not Path(__file__).with_name("go").exists():
        step += 1
        time.sleep(0.05)
        context.report(step, {"dev/position": settings.slope * step})
        context.checkpoint(step, {"step": step}.copy)
    return {"dev/position": settings.slope + context.seed / 100}
