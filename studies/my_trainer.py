"""An example of your own trainer (`trainer: my_trainer`): logistic regression on two half moons, in NumPy."""

import numpy as np
from pydantic import BaseModel, Field

DEV_ITEMS = 20_260_101  # seed of the dev items: all trials get the same items, so results can be paired


class Settings(BaseModel):
    """What a study may set. Any other key is an error, reported before anything trains."""

    degree: int = Field(1, ge=1, le=9)  # of the polynomial features
    noise: float = Field(0.1, ge=0)  # standard deviation added to both coordinates
    lr: float = Field(0.1, gt=0)
    steps: int = Field(200, ge=1)


def train(settings, context):
    """Return dev/accuracy. Continues from the last saved step."""
    x, y = half_moons(np.random.default_rng(context.seed), 400, settings)
    dev_x, dev_y = half_moons(np.random.default_rng(DEV_ITEMS), 400, settings)
    state = context.restore() or {"step": 0, "weights": [0.0] * x.shape[1]}
    weights = np.array(state["weights"])
    for step in range(state["step"] + 1, settings.steps + 1):
        probability = 1 / (1 + np.exp(-x @ weights))
        weights -= settings.lr * x.T @ (probability - y) / len(y)
        loss = -np.mean(np.log(np.where(y == 1, probability, 1 - probability) + 1e-12))
        context.report(step, {"train/loss": float(loss)})
        state = {"step": step, "weights": weights.tolist()}
        context.checkpoint(step, lambda state=state: state)
    predicted = (dev_x @ weights > 0).astype(int)
    ids = [str(i) for i in range(len(dev_y))]
    context.predictions("dev", "moons", ids, predicted.tolist(), dev_y.tolist())
    return {"dev/accuracy": float(np.mean(predicted == dev_y))}


def half_moons(rng, n, settings):
    """Return features [n, 1 + 2·degree] and labels [n] of 0 and 1."""
    y = rng.integers(0, 2, n)
    angle = rng.uniform(0, np.pi, n)
    x1 = np.where(y == 1, 1 - np.cos(angle), np.cos(angle)) - 0.5 + rng.normal(0, settings.noise, n)
    x2 = np.where(y == 1, 0.5 - np.sin(angle), np.sin(angle)) - 0.25 + rng.normal(0, settings.noise, n)
    powers = range(1, settings.degree + 1)
    return np.stack([np.ones(n), *(x1**k for k in powers), *(x2**k for k in powers)], axis=1), y
