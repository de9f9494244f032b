"""A trainer that descends on noisy, shuffled items with momentum, and has one fault of those that trainers have."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from ablate.contract import Context

ITEMS = np.linspace(-1.0, 1.0, 8)
kept: list[float] = []  # what the fault `shared` keeps from trial to trial


class Settings(BaseModel, extra="forbid"):
    lr: float = 0.1
    steps: int = 6
    seconds_per_step: float = 0.0
    fault: str = "none"


def train(settings: Settings, context: Context) -> dict[str, float]:
    fault = settings.fault
    if fault == "pair" and (settings.lr, context.seed) == (0.2, 2):
        raise RuntimeError("the weights fell over")
    rng = np.random.default_rng(0 if fault == "seed" else context.seed)
    if fault == "shared":
        kept.append(settings.lr)
    # Integers above 2**53 would not survive the sum; the order of the items is drawn once.
    order = np.random.default_rng(None if fault == "order" else rng.integers(99)).permutation(ITEMS)
    state: dict[str, Any] = {"step": 0, "weight": 0.0, "momentum": 0.0, "total": 0.0}
    if fault not in ("silent", "forgetful"):
        state = context.restore() or state
    if "rng" in state:
        rng.bit_generator.state = state["rng"]
    weight, total = state["weight"], state["total"]
    momentum = state.get("momentum", 0.0)
    for step in range(state["step"] + 1, settings.steps + 1):
        time.sleep(settings.seconds_per_step)
        loss = (weight - order[step % len(order)] - rng.normal()) + len(kept)
        momentum = 0.9 * momentum - settings.lr * loss
        weight += momentum
        total += loss
        if fault == "error" and step == 3:
            raise RuntimeError("the weights fell over")
        if fault == "death" and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        context.report(step, {"train/loss": float(loss), "train/seconds": time.perf_counter()})
        if fault != "silent":
            context.checkpoint(step, lambda: saved(fault, step, weight, momentum, total, rng))  # noqa: B023
    ids = [f"{fault == 'ids' and settings.lr} {item}" for item in range(len(ITEMS))]
    context.predictions("dev", "y", ids, [weight] * len(ITEMS), ITEMS.tolist())
    if fault == "litter":
        total += len(list(context.workdir.glob("litter*")))
        (context.workdir / f"litter{os.getpid()}").touch()
    metrics = {"dev/score": float(weight), "dev/mean_loss": total / settings.steps}
    return {"dev/other": 0.0} if fault == "metric" and settings.lr > 0.1 else metrics


def saved(
    fault: str, step: int, weight: float, momentum: float, total: float, rng: np.random.Generator
) -> dict[str, Any]:
    state = {
        "step": step,
        "weight": float(weight),
        "momentum": float(momentum),
        "total": float(total),
        "rng": rng.bit_generator.state,
    }
    if fault == "object":
        return {"path": Path()}
    if fault == "sums":
        return {**state, "total": 0.0}
    return {name: value for name, value in state.items() if name != fault}
