"""A Lightning module under ablate: a small network with dropout learns to tell two rings apart.

Lines marked `# ablate` are there for ablate alone."""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ablate.adapters.lightning  # ablate


class Settings(BaseModel, extra="forbid"):
    width: int = 16
    dropout: float = 0.1
    epochs: int = 20


def train(settings: Settings, context) -> dict[str, float]:
    seed_everything(context.seed, verbose=False)
    training, held_out = rings(0, 400), rings(1, 400)
    module = Rings(settings.width, settings.dropout)
    trainer = Trainer(max_epochs=settings.epochs, devices=1, log_every_n_steps=5)
    loaders = DataLoader(training, batch_size=32, shuffle=True), DataLoader(held_out, batch_size=200)
    return ablate.adapters.lightning.fit(trainer, context, module, *loaders, predictions="accuracy")  # ablate


class Rings(LightningModule):
    """Two hidden layers; which ring is a point from?"""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 2),
        )

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        outputs = self.layers(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(outputs, batch[1]))
        self.log("val_accuracy", (outputs.argmax(dim=1) == batch[1]).float().mean())

    def predict_step(self, batch: list[Tensor], _: int) -> tuple[Tensor, Tensor]:
        return self.layers(batch[0]).argmax(dim=1), batch[1]

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        }


def rings(seed: int, n: int) -> TensorDataset:
    """Return points [n, 2] of two noisy rings, and which ring each is from."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (n,), generator=generator)
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    radius = 1 + label + 0.2 * torch.randn(n, generator=generator)
    return TensorDataset(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), label)
