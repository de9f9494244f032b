"""A trainer that can tell what it takes: two seconds a step. Notes each time that it is asked."""

from pathlib import Path

from pydantic import BaseModel

from ablate.contract import Context
from ablate.errors import BadInput

SECONDS_PER_STEP = 2.0


class Settings(BaseModel, extra="forbid"):
    steps: int = 5
    fault: str = "none"  # none, file, bug, or what it takes to say: nan, nothing


def check(settings: Settings) -> None:
    if settings.fault == "file":
        raise BadInput("data.csv: not there")


def train(settings: Settings, context: Context) -> dict[str, float]:
    return {"dev/score": float(settings.steps)}


def measure(trainings: dict[str, Settings], context: Context) -> dict[str, float]:
    print("a trainer may print")
    with Path("asked.log").open("a") as log:
        log.write(f"{len(trainings)}\n")
    faults = {settings.fault for settings in trainings.values()}
    if "bug" in faults:
        raise RuntimeError("the clock stopped")
    if "nothing" in faults:
        return {}
    pace = float("nan") if "nan" in faults else SECONDS_PER_STEP
    return {name: pace * settings.steps for name, settings in trainings.items()}
