"""A trainer that takes no time but does what real ones do: random steps from a seed, curves, checkpoints, parts, failures."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from ablate.contract import Context

OMIT = os.environ.get("WALK_OMIT")  # an item of the state to forget: a test of the tests


class Settings(BaseModel, extra="forbid"):
    """What the tests vary."""

    slope: float = 1.0
    noise: float = 0.1
    steps: int = 5
    seconds_per_step: float = 0.0
    shared: bool = False  # two parts, of which "common" depends on the noise alone
    only: str = ""  # which of the two parts this is
    fault: str = "none"  # none, nan, or at step 3, each time: error, exit, kill (the process), hang, disk, gpu; at birth: birth;
    # at step 3, once: orphan (kill the process, whose child lives on)
    # or no fault at all: unsaved (tells points, saves nothing), silent (tells nothing), pool (has processes),
    # predicts (keeps predictions)


def parts(settings: Settings) -> dict[str, Settings]:
    if not settings.shared:
        return {"all": settings}
    common = settings.model_copy(update={"only": "common", "slope": 1.0, "shared": False})
    return {"common": common, "own": settings.model_copy(update={"only": "own", "shared": False})}


def train(settings: Settings, context: Context) -> dict[str, float]:
    if settings.fault == "birth":
        os.kill(os.getpid(), signal.SIGKILL)
    rng = np.random.default_rng(context.seed)
    position, begin = 0.0, 0
    if state := context.restore():
        begin = state["step"] if OMIT != "step" else 0
        position = float(state["position"]) if OMIT != "position" else 0.0
        if OMIT != "rng":
            rng.bit_generator.state = state["rng"]
    with (context.workdir / "trained.log").open("a") as log:
        log.write(f"{os.getpid()} from {begin}\n")
    steps = os.open(context.workdir / "steps.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for step in range(begin + 1, settings.steps + 1):
        position += settings.slope + settings.noise * rng.standard_normal()
        time.sleep(settings.seconds_per_step)
        os.write(steps, b"%d %d\n" % (os.getpid(), step))
        if settings.fault == "kill" and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.fault == "orphan" and step == 3 and begin == 0:
            if not (child := os.fork()):
                time.sleep(1000)
            (context.workdir / "orphan.pid").write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.fault == "pool" and step == 3:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.apply(abs, (-1,))  # it has begun
                pool.apply_async(time.sleep, (1000,))
                time.sleep(0.1)
        if settings.fault == "error" and step == 3:
            raise RuntimeError("the walk fell over")
        if settings.fault == "gpu" and step == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if settings.fault == "exit" and step == 3:
            raise SystemExit(0)
        if settings.fault == "hang" and step == 3:
            time.sleep(1000)
        if settings.fault == "disk" and step == 3:
            raise RuntimeError(f"torch could not write: {os.strerror(errno.ENOSPC)}")
        if settings.fault == "silent":
            continue
        context.report(step, {"dev/position": position})
        if settings.fault == "unsaved":
            continue
        state = {"step": step, "position": np.array([position])[0], "rng": rng.bit_generator.state}
        context.checkpoint(step, state.copy)
    os.close(steps)
    if settings.fault == "predicts":
        gold = [0.0, 1.0, 2.0]
        context.predictions("dev", "position", ["a", "b", "c"], [position, position + 1, position + 2], gold)
    prefix = f"dev/{settings.only}" if settings.only else "dev/position"
    return {prefix: float("nan") if settings.fault == "nan" else position}


def combine(settings: Settings, metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    flat = {name: value for part in metrics.values() for name, value in part.items()}
    return {**flat, "dev/position": flat.get("dev/position", sum(flat.values()))}


def check(settings: Settings) -> None:
    assert Path.cwd().exists()
