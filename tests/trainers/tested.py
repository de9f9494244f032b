"""A trainer that keeps a model of one number and scores it on a test split of one item."""

from pydantic import BaseModel

from ablate.contract import Context
from ablate.errors import Unavailable


class Settings(BaseModel, extra="forbid"):
    """What the tests vary."""

    gain: float = 0.0
    keep: bool = True
    labels: bool = True
    name: str = "test/score"  # of the test metric; the gain follows


def parts(settings: Settings) -> dict[str, Settings]:
    return {"a": settings, "b": settings.model_copy(update={"gain": 2 * settings.gain})}


def train(settings: Settings, context: Context) -> dict[str, float]:
    score = settings.gain + context.seed
    if settings.keep:
        (context.workdir / "model").write_text(str(score))
    return {f"dev/score{settings.gain}": score}


def combine(settings: Settings, metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    flat = {name: value for part in metrics.values() for name, value in part.items()}
    split = "test" if any(name.startswith("test") for name in flat) else "dev"
    return {**flat, f"{split}/score": sum(flat.values())} if flat else {}


def test(settings: Settings, context: Context) -> dict[str, float]:
    print("a trainer may print")
    if not (context.workdir / "model").exists():
        raise Unavailable(f"{context.workdir}: no model was kept; set keep: true")
    score = 100 + float((context.workdir / "model").read_text())
    context.predictions("test", "task", ["x"], [score], [0.0])
    return {f"{settings.name}{settings.gain}": score} if settings.labels else {}
