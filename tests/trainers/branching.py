"""A trainer whose trainings are alike until they branch off: a walk with one slope, then with another, and one of two scores.

Each step computed, in any process, is a line of `steps.log` in the study's cache, and one of that in the part's folder."""

import os
import time

import numpy as np
from pydantic import BaseModel

from ablate.contract import Context

FORGET = os.environ.get(
    "BRANCHING_FORGET", ""
)  # a setting that `prefixes` forgets, or the state: a test of the tests


class Settings(BaseModel, extra="forbid"):
    """What the tests vary."""

    slope: float = 1.0  # of the first half
    then: float = 1.0  # the slope of the second half
    score: str = "position"  # or square, of the end
    fails: bool = False  # at its end
    pace: float = 0.0  # seconds of a step
    steps: int = 8
    kill_at: int = 0  # the process dies once, before this step
    keeps: bool = True  # whether it keeps checkpoints


def prefixes(settings: Settings) -> dict[str, Settings]:
    reset = {"score": "position", "fails": False, "kill_at": 0, "keeps": True}
    until_late = settings.model_copy(update=reset)
    forgotten = {FORGET: Settings.model_fields[FORGET].default} if FORGET in Settings.model_fields else {}
    return {
        "half": until_late.model_copy(update={"then": 1.0, **forgotten}),
        "three quarters": until_late,
    }


def train(settings: Settings, context: Context) -> dict[str, float]:
    rng = np.random.default_rng(context.seed)
    position, begin = 0.0, 0
    if state := context.restore():
        begin, position = int(state["step"]), float(state["position"])
        rng.bit_generator.state = state["rng"]
    context.cache.mkdir(exist_ok=True)
    ends = {settings.steps // 2: "half", settings.steps * 3 // 4: "three quarters"}
    for step in range(begin + 1, settings.steps + 1):
        if step == settings.kill_at and not (mark := context.workdir / "killed").exists():
            mark.touch()
            os.kill(os.getpid(), 9)
        slope = settings.slope if step <= settings.steps // 2 else settings.then
        position += slope + rng.standard_normal()
        time.sleep(settings.pace)
        with (context.cache / "steps.log").open("a") as log:
            log.write(f"{context.seed} {step}\n")
        with (context.workdir / "steps.log").open("a") as log:
            log.write(f"{os.getpid()} {step}\n")
        context.report(step, {"dev/score": position})
        state = {"step": step, "position": position, "rng": rng.bit_generator.state}
        if FORGET == "rng":
            state["rng"] = np.random.default_rng(0).bit_generator.state
        if step in ends:
            context.prefix(ends[step], step, state.copy)
        if settings.keeps:
            context.checkpoint(step, state.copy)
    if settings.fails:
        raise RuntimeError("the walk fell over")
    context.facts["slopes"] = [settings.slope, settings.then]
    context.predictions("dev", "score", ["a", "b"], [position, position + 1], [0.0, 1.0])
    return {"dev/score": position if settings.score == "position" else position**2}
