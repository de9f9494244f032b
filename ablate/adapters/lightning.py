"""Use a Lightning module as a trainer (see `ablate.contract`):

    def train(settings, context):
        seed_everything(context.seed)
        return ablate.adapters.lightning.fit(Trainer(max_epochs=3), context, MyModule(...), MyDataModule(...))

What `fit` changes in the Trainer: training is seeded with `context.seed`; progress bars, model summaries, the sanity check and
Lightning's default logger and checkpoints are off; all other files go to `context.workdir`. The module is made before `fit` is
called, so seed its weights yourself, as above.

Checkpoints are only taken between epochs, since Lightning's checkpoints do not contain sums over an epoch (`self.log(...,
on_epoch=True)`, torchmetrics, your own lists). A run that is asked to stop does so at the end of the epoch, and a kill costs at
most one epoch; `limit_train_batches` makes epochs shorter.

On a CPU, resumed training is bit-identical to training that was never interrupted. You have to take care of these cases
yourself: callbacks, loops and modules with state outside `state_dict`; data loaders whose processes draw random numbers and
persist from epoch to epoch (`persistent_workers`); iterable datasets whose order differs each time they are read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loops.loop import _Loop

from ablate.adapters.random_numbers import generator_states, restore_generators
from ablate.contract import Context
from ablate.errors import BadInput

DEFAULT_NAME = "lightning_logs"  # name of Lightning's default logger
HYPERPARAMETERS = ("hyper_parameters", "hparams_", "datamodule_hyper_parameters", "datamodule_hparams")
SPLITS = {"val": "dev", "valid": "dev", "validation": "dev", "dev": "dev", "train": "train", "test": "test"}


def fit(
    trainer: Trainer,
    context: Context,
    module: LightningModule,
    data: LightningDataModule | Any = None,
    val_dataloaders: Any = None,
    predictions: str | None = None,
    ids: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
) -> dict[str, float]:
    """Train to the end, from the last checkpoint if there is one, and return the validation metrics: `val_loss` as `dev/loss`.

    `data` is a data module, or the training loader (then give `val_dataloaders` too); without either, the module needs its own
    loaders. The model after the last epoch is validated. Curves are what the module logs: `val_loss` or `val/loss` as
    `dev/loss`, `train_loss` and any other name as `train/...`.

    `predictions` names the metric whose items are kept, such as "accuracy" for `dev/accuracy`. The module's `predict_step` is
    then called with the batches of the validation data and returns the items' predictions and labels, `(predicted [n], gold
    [n])`. `ids` are the items' ids (default: their positions); `clusters` labels items that depend on each other.

    Raises:
        BadInput: the Trainer cannot be resumed exactly, has nothing to validate, or `predict_step` returns something else.
        Stopped, Pruned: as in the contract.
    """
    _refuse(trainer, context)
    curves = _Curves(context)
    seed_everything(context.seed, verbose=False)
    state = context.restore()
    _adopt(trainer, context, curves, _Follower(context, state))
    if state is None or not state["finished"]:
        trainer.fit(module, data, val_dataloaders)
        finished = {"finished": True, "module": module.state_dict(), "generators": generator_states()}
        context.checkpoint(trainer.global_step, lambda: finished)
    # The final validation is not a point of the curves.
    curves.on = False
    held_out = data if isinstance(data, LightningDataModule) else val_dataloaders
    results = trainer.validate(module, held_out, verbose=False)
    metrics = {name: value for result in results for name, value in _named(result, "dev").items()}
    if not metrics:
        raise BadInput(
            "the module logs nothing in validation_step; ablate compares trials by what the module logs there"
        )
    if predictions is not None:
        predicted, gold = _items(predictions, trainer.predict(module, trainer.val_dataloaders))
        named = [str(each) for each in (range(len(gold)) if ids is None else ids)]
        context.predictions("dev", predictions, named, predicted, gold, clusters)
    return metrics


def _refuse(trainer: Trainer, context: Context) -> None:
    """Refuse a Trainer that cannot be resumed exactly."""
    device = trainer.strategy.root_device
    if context.device == "cpu" and device.type != "cpu":
        raise BadInput(
            f"the Trainer is on {device}, this study on the CPU; make it with "
            'Trainer(accelerator="cpu" if context.device == "cpu" else "auto")'
        )
    if trainer.world_size > 1:
        raise BadInput(
            "ablate cannot resume this Trainer exactly: it trains on several devices; set devices=1"
        )


def _adopt(trainer: Any, context: Context, curves: Logger, follower: Callback) -> None:
    """Set the Trainer's folder and loggers to the trial's, and silence it."""
    trainer._default_root_dir = str(context.workdir / "lightning")
    # The follower comes first: a checkpoint at the start of an epoch must not include what other callbacks do in that epoch.
    trainer.callbacks[:] = [follower, *(each for each in trainer.callbacks if not _is_unwanted(each))]
    trainer.loggers = [*(each for each in trainer.loggers if each.name != DEFAULT_NAME), curves]
    trainer.num_sanity_val_steps = 0
    # The worker has its own signal handlers, which save.
    vars(trainer._signal_connector)["register_signal_handlers"] = lambda: None


def _is_unwanted(callback: Callback) -> bool:
    """Return whether a callback only prints, or saves Lightning's default checkpoints, which nobody reads."""
    if isinstance(callback, ModelCheckpoint):
        return callback.dirpath is None and callback.monitor is None
    return isinstance(callback, ProgressBar | ModelSummary)


class _Curves(Logger):
    """Reports what a module logs."""

    name = version = None

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context, self.on = context, True

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.on:
            self._context.report(step or 0, _named(metrics, "train"))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """No-op: the study records them."""


class _Follower(Callback):
    """Resets the hang timer, and offers a checkpoint at the start of each epoch, when the epoch before it is complete.

    Lightning's own resuming depends on whether an epoch was finished, begun or interrupted, and draws other random numbers in
    each case. So the counters are set before its loop begins, as if this process had trained until here, and everything else is
    restored at the point in the epoch where it was saved."""

    def __init__(self, context: Context, resumed: dict[str, Any] | None) -> None:
        self._context, self._resumed = context, resumed

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self._resumed is None:
            return
        fit_loop = trainer.fit_loop
        fit_loop.load_state_dict(self._resumed["loops"])
        for loop in _loops(fit_loop):
            loop._restarting = loop._loaded_from_state_dict = loop._resuming_from_checkpoint = False
        # The saved counters include the epoch that begins now, and Lightning will count it again.
        for progress in (fit_loop.epoch_progress.total, fit_loop.epoch_progress.current):
            progress.ready -= 1

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self._resumed is not None:
            _load(trainer, self._resumed)
            self._resumed = None
        elif trainer.current_epoch > 0:
            self._context.checkpoint(trainer.global_step, lambda: _state(trainer))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._context.report(trainer.global_step, {})

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._context.report(trainer.global_step, {})

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self._resumed is not None and self._resumed["finished"]:
            module.load_state_dict(self._resumed["module"])
            restore_generators(self._resumed["generators"])
            self._resumed = None


def _loops(loop: _Loop) -> Iterator[_Loop]:
    yield loop
    for each in vars(loop).values():
        if isinstance(each, _Loop):
            yield from _loops(each)


def _state(trainer: Trainer) -> dict[str, Any]:
    """Return everything that the rest of the training depends on, at the beginning of an epoch."""
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    return {
        "finished": False,
        "loops": checkpoint.pop("loops")["fit_loop"],
        # Left out: hyperparameters may be arbitrary objects, and the user's code makes the module with them anyway.
        "checkpoint": {
            name: value for name, value in checkpoint.items() if not name.startswith(HYPERPARAMETERS)
        },
        # Plateau schedulers may read metrics of an earlier epoch.
        "logged": dict(trainer.callback_metrics),
        "generators": generator_states(),
        "loaders": [generator.get_state() for generator in _loader_generators(trainer)],
    }


def _load(trainer: Trainer, state: dict[str, Any]) -> None:
    """Restore everything except the counters."""
    connector = trainer._checkpoint_connector
    connector._loaded_checkpoint = state["checkpoint"]
    connector.restore_model()
    connector.restore_datamodule()
    connector.restore_callbacks()
    connector.restore_precision_plugin_state()
    connector.restore_optimizers_and_schedulers()
    connector._loaded_checkpoint = {}
    trainer._logger_connector._callback_metrics.update(state["logged"])
    for generator, saved in zip(_loader_generators(trainer), state["loaders"], strict=True):
        generator.set_state(saved)
    restore_generators(state["generators"])


def _loader_generators(trainer: Any) -> list[torch.Generator]:
    """Return the generators of data loaders and their samplers."""
    loaders = trainer.fit_loop._combined_loader.flattened if trainer.fit_loop._combined_loader else []
    owners = [owner for loader in loaders for owner in (loader, getattr(loader, "sampler", None))]
    generators = [getattr(owner, "generator", None) for owner in owners]
    return [generator for generator in generators if generator is not None]


def _named(logged: Mapping[str, Any], other: str) -> dict[str, float]:
    """Return what was logged under our names: `val_loss` is `dev/loss`; names without a known prefix become `<other>/...`."""
    named = {}
    for name, value in logged.items():
        split, separator, metric = name.replace("/", "_", 1).partition("_")
        if name == "epoch":
            continue
        if not separator or split not in SPLITS:
            split, metric = other, name
        named[f"{SPLITS.get(split, split)}/{metric}"] = float(value)
    return named


def _items(task: str, batches: Any) -> tuple[list[float], list[float]]:
    """Return the prediction and the label of each item."""
    try:
        columns = [np.concatenate([np.ravel(part) for part in parts]) for parts in zip(*batches, strict=True)]
        predicted, gold = (column.tolist() for column in columns)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"predictions={task!r}: predict_step must return (predicted [n], gold [n]) for a batch of n items ({error})"
        ) from error
    return predicted, gold
