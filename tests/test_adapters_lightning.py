"""A Lightning module under the contract: whatever it uses, stopped and continued it ends in the same bits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from stopping import trained
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ablate.adapters.lightning import fit
from ablate.contract import Context, Pruned
from ablate.errors import BadInput

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on speed and loggers
    pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # it uses an older name of torch's
]
EPOCHS = 4


def items(seed: int, n: int) -> TensorDataset:
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x.sum(dim=1) > 0).long())


class Module(LightningModule):
    """Dropout, a metric summed over the epoch, and a choice of schedulers."""

    def __init__(self, scheduler: str = "none") -> None:
        super().__init__()
        self.scheduler = scheduler
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        outputs = self.layers(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(outputs, batch[1]))
        self.log("val/accuracy", (outputs.argmax(dim=1) == batch[1]).float().mean())

    def predict_step(self, batch: list[Tensor], _: int) -> tuple[Tensor, Tensor]:
        return self.layers(batch[0]).argmax(dim=1), batch[1]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        if self.scheduler == "none":
            return optimizer
        if self.scheduler == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss", "strict": False},
            }
        by_step = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=100)
        return [optimizer], [{"scheduler": by_step, "interval": "step"}]


class Manual(Module):
    """Two optimizers, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], _: int) -> None:  # type: ignore[override]
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(nn.functional.cross_entropy(self.layers(batch[0]), batch[1]))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.layers[0].parameters(), 0.1),
            torch.optim.Adam(self.layers[3].parameters()),
        ]


class Noisy(Dataset[Any]):
    """Draws random numbers for each item."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        x, y = items(0, 20)[index]
        return x + 0.1 * torch.randn(3), y


def with_generator() -> DataLoader[Any]:
    return DataLoader(items(0, 20), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(3))


def run(
    context: Context,
    module: Callable[[], LightningModule] = Module,
    loader: Callable[[], Any] | None = None,
    callbacks: Callable[[], Any] = list,
    **options: Any,
) -> dict[str, float]:
    seed_everything(context.seed, verbose=False)
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": EPOCHS,
        "log_every_n_steps": 2,
        "callbacks": callbacks(),
    }
    training = loader() if loader else DataLoader(items(0, 20), batch_size=4, shuffle=True)
    held_out = DataLoader(items(1, 12), batch_size=6)
    trainer = Trainer(**defaults | options)
    return fit(trainer, context, module(), training, held_out, predictions="accuracy")


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"accumulate_grad_batches": 2},
    "steps": {"max_steps": 18, "max_epochs": -1},
    "scheduler": {"module": lambda: Module("steps"), "callbacks": lambda: [LearningRateMonitor()]},
    "plateau": {"module": lambda: Module("plateau"), "check_val_every_n_epoch": 2},
    "validation in the epoch": {"val_check_interval": 2},
    "early stopping": {"callbacks": lambda: [EarlyStopping("val_loss", patience=1, min_delta=1.0)]},
    "manual": {"module": Manual},
    "drawing data": {"loader": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True)},
    "processes": {
        "loader": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=1),
        "max_epochs": 2,
    },
    "own generator": {"loader": with_generator},
}


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_after_every_epoch_it_ends_in_the_same_bits(variant: str, tmp_path: Path) -> None:
    def train(context: Context) -> dict[str, float]:
        return run(context, **VARIANTS[variant])

    undisturbed = trained(train, tmp_path / "undisturbed")
    stopped = trained(train, tmp_path / "stopped", stops=range(100))
    assert stopped == undisturbed
    assert stopped.attempts > 2
    assert undisturbed.predictions


def test_it_trains_what_the_trainer_alone_would(tmp_path: Path) -> None:
    outcome = trained(run, tmp_path / "adapted")
    seed_everything(11, verbose=False)
    training = DataLoader(items(0, 20), batch_size=4, shuffle=True)
    held_out = DataLoader(items(1, 12), batch_size=6)
    module = Module()
    alone = Trainer(accelerator="cpu", max_epochs=EPOCHS, enable_checkpointing=False, logger=False)
    seed_everything(11, verbose=False)
    alone.fit(module, training, held_out)
    scores = alone.validate(module, held_out, verbose=False)[0]
    assert outcome.metrics == {"dev/loss": scores["val_loss"], "dev/accuracy": scores["val/accuracy"]}


def test_curves_have_the_contracts_names(tmp_path: Path) -> None:
    points = trained(run, tmp_path).points
    assert {name for _, name, _ in points} == {
        "train/loss_step",
        "train/loss_epoch",
        "dev/loss",
        "dev/accuracy",
    }
    assert [step for step, name, _ in points if name == "dev/loss"] == [4, 9, 14, 19]


def test_predictions_are_those_of_the_validation_items(tmp_path: Path) -> None:
    outcome = trained(run, tmp_path)
    rows = [line.split(",") for line in outcome.predictions["dev.accuracy.csv"].splitlines()[1:]]
    assert [int(row[2]) for row in rows] == items(1, 12).tensors[1].tolist()
    right = sum(row[1] == row[2] for row in rows)
    assert outcome.metrics["dev/accuracy"] == pytest.approx(right / len(rows))


def test_it_leaves_nothing_behind_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(run, tmp_path / "work")
    assert os.listdir(tmp_path) == ["work"]
    assert os.listdir(tmp_path / "work") == ["predictions"]
    assert capsys.readouterr().out == ""


def test_a_data_module_and_loaders_of_the_module_serve_as_well(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(items(0, 20), batch_size=4, shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(items(1, 12), batch_size=6)

    class WithLoaders(Module):
        train_dataloader, val_dataloader = Data.train_dataloader, Data.val_dataloader

    def with_data(context: Context) -> dict[str, float]:
        seed_everything(context.seed, verbose=False)
        return fit(Trainer(accelerator="cpu", max_epochs=EPOCHS), context, Module(), Data())

    def with_loaders(context: Context) -> dict[str, float]:
        seed_everything(context.seed, verbose=False)
        return fit(Trainer(accelerator="cpu", max_epochs=EPOCHS), context, WithLoaders())

    metrics = trained(run, tmp_path / "loaders").metrics
    assert trained(with_data, tmp_path / "data").metrics == metrics
    assert trained(with_loaders, tmp_path / "own").metrics == metrics


def test_pruning_passes_through(tmp_path: Path) -> None:
    def pruned(context: Any) -> dict[str, float]:
        def report(step: int, metrics: dict[str, float]) -> None:
            if "dev/loss" in metrics:
                raise Pruned

        context.report = report
        return run(context)

    with pytest.raises(Pruned):
        trained(pruned, tmp_path)


def test_a_module_that_validates_nothing_is_refused(tmp_path: Path) -> None:
    class Blind(Module):
        def validation_step(self, batch: list[Tensor], _: int) -> None:
            """Log nothing."""

    with pytest.raises(BadInput, match="logs nothing in validation_step"):
        trained(lambda context: run(context, module=Blind, max_epochs=1), tmp_path)


def test_predict_step_must_return_predictions_and_labels(tmp_path: Path) -> None:
    class Half(Module):
        def predict_step(self, batch: list[Tensor], _: int) -> Any:
            return self.layers(batch[0]).argmax(dim=1)

    with pytest.raises(BadInput, match="predict_step must return"):
        trained(lambda context: run(context, module=Half, max_epochs=1), tmp_path)
