"""A plain torch loop under ablate: a small network learns to tell two rings apart.

Lines marked `# ablate` are there for ablate alone."""

import torch
from pydantic import BaseModel
from torch import Tensor, nn


class Settings(BaseModel, extra="forbid"):
    width: int = 16
    lr: float = 0.02
    steps: int = 200


def train(settings: Settings, context) -> dict[str, float]:
    torch.manual_seed(context.seed)
    (x, y), (dev_x, dev_y) = rings(0, 400), rings(1, 400)
    model = nn.Sequential(
        nn.Linear(2, settings.width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(settings.width, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    begin = 0  # ablate
    if state := context.restore():  # ablate
        begin = state["step"]  # ablate
        model.load_state_dict(state["model"])  # ablate
        optimizer.load_state_dict(state["optimizer"])  # ablate
        torch.set_rng_state(state["random"])  # ablate
    for step in range(begin + 1, settings.steps + 1):
        items = torch.randint(len(x), (32,))
        loss = nn.functional.cross_entropy(model(x[items]), y[items])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            context.report(step, {"train/loss": loss.item()})  # ablate
        saved = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}  # ablate
        saved["random"] = torch.get_rng_state()  # ablate
        context.checkpoint(step, lambda saved=saved: saved)  # ablate
    predicted = model.eval()(dev_x).argmax(dim=1)
    ids = [str(i) for i in range(len(dev_y))]  # ablate
    context.predictions("dev", "accuracy", ids, predicted.tolist(), dev_y.tolist())  # ablate
    return {"dev/accuracy": (predicted == dev_y).float().mean().item()}


def rings(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Return points [n, 2] of two noisy rings, and which ring each is from."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (n,), generator=generator)
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    radius = 1 + label + 0.2 * torch.randn(n, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), label
