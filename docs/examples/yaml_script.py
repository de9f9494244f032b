"""A script that reads a YAML file and knows nothing about ablate: ridge regression on polynomial features.

python yaml_script.py config.yaml"""

import json
import sys
from pathlib import Path

import numpy as np
import yaml

config = yaml.safe_load(Path(sys.argv[1]).read_text())
rng = np.random.default_rng(config["data"]["random_state"])


def sample(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.uniform(-1, 1, n)
    return x, np.sin(3 * x) + rng.normal(0, config["data"]["noise"], n)


def features(x: np.ndarray) -> np.ndarray:
    return np.vander(x, config["model"]["degree"] + 1)


x, y = sample(rng, config["data"]["rows"])
dev_x, dev_y = sample(np.random.default_rng(0), 500)
ridge = config["model"]["ridge"] * np.eye(config["model"]["degree"] + 1)
weights = np.linalg.solve(features(x).T @ features(x) + ridge, features(x).T @ y)
mse = float(np.mean((features(dev_x) @ weights - dev_y) ** 2))

folder = Path(config["output_dir"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "metrics.json").write_text(json.dumps({"dev/mse": mse}))
