"""A trainer whose code is in many files: tests write and edit them."""

import functools
import importlib
import time
from pathlib import Path

from coded_helpers import early  # type: ignore[import-not-found]  # tests write it
from pydantic import BaseModel

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    script: str = "a.txt"
    steps: int = 1
    fails: bool = False


def sources(settings: Settings) -> list[str]:
    return [settings.script]


def train(settings: Settings, context: Context) -> dict[str, float]:
    from coded_helpers.late import LATE  # type: ignore[import-not-found]

    computed = importlib.import_module("coded" + "_computed").VALUE
    if settings.fails:
        raise RuntimeError("not yet")
    begin = (context.restore() or {"step": 0})["step"]
    for step in range(begin + 1, settings.steps + 1):
        with (context.workdir / "steps.log").open("a") as log:
            log.write(f"{step}\n")
        time.sleep(0.05)
        context.checkpoint(step, functools.partial(dict, step=step))
    script = float(Path(settings.script).read_text())
    return {"dev/x": early.EARLY + LATE + computed + script + context.seed / 7}
