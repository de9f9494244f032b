"""A script that knows nothing about ablate: a small network learns to tell two rings apart; scores are printed as JSON.

python argparse_script.py --width 8 --lr 0.5 --seed 3"""

import argparse
import json

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=4, help="hidden units")
parser.add_argument("--activation", choices=["tanh", "relu"], default="tanh")
parser.add_argument("--lr", type=float, default=0.5, help="step size")
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--seed", type=int, default=0)


def rings(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points [n, 2] of two noisy rings, and which ring each is from."""
    y = rng.integers(0, 2, n)
    angle, radius = rng.uniform(0, 2 * np.pi, n), 1 + y + rng.normal(0, 0.2, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y


def main() -> None:
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    x, y = rings(rng, 200)
    dev_x, dev_y = rings(np.random.default_rng(1), 400)
    first, second = rng.normal(0, 1, (3, options.width)), rng.normal(0, 1, options.width + 1)
    for step in range(1, options.steps + 1):
        hidden, p = forward(x, first, second, options.activation)
        error = (p - y) / len(y)
        slope = 1 - hidden[:, :-1] ** 2 if options.activation == "tanh" else hidden[:, :-1] > 0
        back = np.outer(error, second[:-1]) * slope
        second -= options.lr * hidden.T @ error
        first -= options.lr * with_one(x).T @ back
        if step % 50 == 0:
            print(f"step {step}: accuracy {np.mean((p > 0.5) == y):.3f}")
    p = forward(dev_x, first, second, options.activation)[1]
    print(
        json.dumps({"accuracy": float(np.mean((p > 0.5) == dev_y)), "loss": float(np.mean((p - dev_y) ** 2))})
    )


def forward(
    x: np.ndarray, first: np.ndarray, second: np.ndarray, activation: str
) -> tuple[np.ndarray, np.ndarray]:
    hidden = with_one(x) @ first
    hidden = with_one(np.tanh(hidden) if activation == "tanh" else np.maximum(hidden, 0))
    return hidden, 1 / (1 + np.exp(-hidden @ second))


def with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


if __name__ == "__main__":
    main()
