"""A trainer whose results depend on what it is told: the seed alone, or also a file that is not a setting."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    gain: float = 1.0


def parts(settings: Settings) -> dict[str, Settings]:
    return {"common": Settings(), "own": settings}


def train(settings: Settings, context: Context) -> dict[str, float]:
    offset = float(Path("offset.txt").read_text())
    if offset == 9:
        raise RuntimeError("nine is too much")
    values = np.random.default_rng(context.seed).normal(settings.gain, 1.0, 20)
    shifted = values + (Path("shift.txt").is_file() and 1e-12)
    context.predictions("dev", "x", [str(i) for i in range(20)], shifted.tolist(), [0.0] * 20)
    return {f"dev/x{settings.gain}": float(values.mean()) + offset}


def combine(settings: Settings, metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    return {"dev/x": sum(value for part in metrics.values() for value in part.values())}
