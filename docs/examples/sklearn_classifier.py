"""A scikit-learn classifier under ablate: it trains in one call, so there is nothing to save on the way."""

import numpy as np
from pydantic import BaseModel
from sklearn.datasets import make_moons
from sklearn.ensemble import RandomForestClassifier

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    n_estimators: int = 50
    max_depth: int | None = None
    min_samples_leaf: int = 1


def train(settings: Settings, context: Context) -> dict[str, float]:
    x, y = make_moons(400, noise=0.3, random_state=context.seed)
    dev_x, dev_y = make_moons(1000, noise=0.3, random_state=1)
    model = RandomForestClassifier(**settings.model_dump(), random_state=context.seed).fit(x, y)
    predicted = model.predict(dev_x)
    ids = [str(i) for i in range(len(dev_y))]
    context.predictions("dev", "accuracy", ids, predicted.tolist(), dev_y.tolist())
    return {"dev/accuracy": float(np.mean(predicted == dev_y))}
