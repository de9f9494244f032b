"""A trainer whose truth is known: what each choice adds, and noise from the seed; it takes steps and saves them."""

import time

import numpy as np
from pydantic import BaseModel

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    """Levels of three factors, 0 being the baseline's."""

    large: int = 0  # adds 20 standard deviations of a run
    small: int = 0  # adds 2
    nothing: int = 0
    steps: int = 3
    seconds_per_step: float = 0.0
    fails: int = -1  # the level of `nothing` that crashes


def train(settings: Settings, context: Context) -> dict[str, float]:
    rng = np.random.default_rng([context.seed, settings.large, settings.small, settings.nothing])
    score, begin = 20.0 * settings.large + 2.0 * settings.small, 0
    if state := context.restore():
        score, begin = state["score"], state["step"]
        rng.bit_generator.state = state["rng"]
    if settings.fails == settings.nothing:
        raise RuntimeError("crashed")
    for step in range(begin + 1, settings.steps + 1):
        score += rng.standard_normal() / settings.steps**0.5
        time.sleep(settings.seconds_per_step)
        context.report(step, {"dev/score": score})
        state = {"step": step, "score": score, "rng": rng.bit_generator.state}
        context.checkpoint(step, state.copy)
    return {"dev/score": score}
