"""A trainer that takes no time but does what real ones do: random steps from a seed, curves, checkpoints, parts, failures."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    """What the tests vary."""

    slope: float = 1.0
    noise: float = 0.1
    steps: int = 5
    seconds_per_step: float = 0.0
    shared: bool = False  # two parts, of which "common" depends on the noise alone
    only: str = ""  # which of the two parts this is
    fault: str = "none"  # none, error, nan, kill (the process, at step 3, each time)
    omit: str = ""  # an item of the state to forget


def parts(settings: Settings) -> dict[str, Settings]:
    if not settings.shared:
        return {"all": settings}
    common = settings.model_copy(update={"only": "common", "slope": 1.0, "shared": False})
    return {"common": common, "own": settings.model_copy(update={"only": "own", "shared": False})}


def train(settings: Settings, context: Context) -> dict[str, float]:
    rng = np.random.default_rng(context.seed)
    position, begin = 0.0, 0
    if state := context.restore():
        begin = state["step"]
        position = float(state["position"])
        if settings.omit != "rng":
            rng.bit_generator.state = state["rng"]
    with (context.workdir / "trained.log").open("a") as log:
        log.write(f"{os.getpid()} from {begin}\n")
    for step in range(begin + 1, settings.steps + 1):
        position += settings.slope + settings.noise * rng.standard_normal()
        time.sleep(settings.seconds_per_step)
        if settings.fault == "kill" and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.fault == "error" and step == 3:
            raise RuntimeError("the walk fell over")
        context.report(step, {"dev/position": position})
        state = {"step": step, "position": np.array([position])[0], "rng": rng.bit_generator.state}
        context.checkpoint(step, lambda state=state: state)
    prefix = f"dev/{settings.only}" if settings.only else "dev/position"
    return {prefix: float("nan") if settings.fault == "nan" else position}


def combine(settings: Settings, metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    flat = {name: value for part in metrics.values() for name, value in part.items()}
    return {**flat, "dev/position": flat.get("dev/position", sum(flat.values()))}


def check(settings: Settings) -> None:
    assert Path.cwd().exists()
