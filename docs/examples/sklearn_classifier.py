"""A scikit-learn classifier under ablate: it trains in one call, so it cannot save checkpoints.

Lines marked `# ablate` are there for ablate alone."""

import numpy as np
from pydantic import BaseModel
from sklearn.datasets import make_moons
from sklearn.ensemble import RandomForestClassifier


class Settings(BaseModel, extra="forbid"):
    n_estimators: int = 50
    max_depth: int | None = None
    min_samples_leaf: int = 1


def train(settings: Settings, context) -> dict[str, float]:
    x, y = make_moons(400, noise=0.3, random_state=0)
    dev_x, dev_y = make_moons(1000, noise=0.3, random_state=1)
    model = RandomForestClassifier(**settings.model_dump(), random_state=context.seed).fit(x, y)
    predicted = model.predict(dev_x)
    ids = [str(i) for i in range(len(dev_y))]  # ablate
    context.predictions("dev", "accuracy", ids, predicted.tolist(), dev_y.tolist())  # ablate
    return {"dev/accuracy": float(np.mean(predicted == dev_y))}
