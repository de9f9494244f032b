"""Use a transformers `Trainer` as a trainer (see `ablate.contract`):

    def train(settings, context):
        trainer = Trainer(model_init=..., args=TrainingArguments(...), ...)
        return ablate.adapters.transformers.fit(trainer, context)

What `fit` changes in the Trainer: its seed is `context.seed` (if you set `data_seed`, it is kept); progress bars and printed
logs are off; files are only written with `load_best_model_at_end`, to `context.workdir`. Give the model as `model_init`, which
is called with that seed, or call `transformers.set_seed(context.seed)` before you make it; otherwise its new weights depend on
what the process trained before.

On a CPU, resumed training is bit-identical to training that was never interrupted. This includes
schedulers, gradient accumulation, evaluations, early stopping, the best model, samplers, collators that
draw random numbers, and data loaders with processes. You have to take care of these cases yourself:
callbacks with state that are not `ExportableState`; a `torch.Generator` of your own; datasets without
length whose order differs each time they are read. These are refused, since they cannot be resumed: epochs
cut short, `auto_find_batch_size`, `ignore_data_skip`, training by several processes, DeepSpeed, FSDP."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import GradientState
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, PrinterCallback, ProgressCallback
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    SaveStrategy,
    enable_full_determinism,
    has_length,
)
from transformers.utils import logging

from ablate.adapters.random_numbers import generator_states, restore_generators, seed_batches
from ablate.contract import Context, Pruned
from ablate.errors import BadInput
from ablate.files import sync_tree

# Sums that the Trainer keeps between two logs, and loses when it resumes.
SUMS = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_initial_global_step", "current_flos")
LOADERS = ("_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_scaler", "_load_rng_state")
# Logged beside the metrics, and different in every run.
TIMINGS = (
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "tokens_per_second",
    "model_preparation_time",
    "total_flos",
    "num_input_tokens_seen",
    "epoch",
)


def fit(
    trainer: Trainer,
    context: Context,
    predictions: str | None = None,
    ids: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
) -> dict[str, float]:
    """Train to the end, from the last checkpoint if there is one, and return the evaluation's metrics: `eval_loss` as `dev/loss`.

    The final model is evaluated. With `load_best_model_at_end` that is the best one, and the last evaluation during training is
    returned as `dev/...@last`. Curves are what the Trainer logs: `train/loss`, `train/learning_rate`, `dev/...`.

    `predictions` names the metric whose items are kept, such as "accuracy" for `dev/accuracy`: the class of the highest output
    (or the output itself if there is only one) and the label. `ids` are the items' ids; default: the dataset's column `id`, or
    else their positions. `clusters` labels items that depend on each other. With several evaluation sets, the items of set `x`
    belong to `dev/x_accuracy`, and ids are their positions or columns.

    Raises:
        BadInput: the Trainer cannot be resumed exactly, has no `eval_dataset`, or its outputs are not one per item.
        Stopped, Pruned: as in the contract.
    """
    _refuse(trainer, context)
    _adopt(trainer, context)
    state = context.restore()
    follower = _Follower(trainer, context, state)
    # It comes first: a checkpoint at the start of a step must not include what other callbacks do in that step.
    trainer.callback_handler.callbacks.insert(0, follower)
    try:
        if state is None or state["at"] != "end":
            trainer.train(resume_from_checkpoint=None if state is None else _loadable(trainer, state))
            follower.checkpoint("end")
        else:
            _load_finished(trainer, state)
        metrics = _evaluated(trainer, context, predictions, ids, clusters)
    except BaseException as error:
        # All Trainers of a process share this state; without a reset it would keep the interrupted data loader.
        GradientState._reset_state()
        if isinstance(error, Pruned):
            _remove_checkpoints(trainer)
        raise
    _remove_checkpoints(trainer)
    return metrics


def _refuse(trainer: Trainer, context: Context) -> None:
    """Refuse a Trainer that cannot be resumed exactly."""
    args = trainer.args
    if context.device == "cpu" and args.device.type != "cpu":
        raise BadInput(
            f"the Trainer is on {args.device}, this study on the CPU; make it with "
            'TrainingArguments(use_cpu=context.device == "cpu")'
        )
    if trainer.eval_dataset is None:
        raise BadInput("the Trainer has no eval_dataset; ablate compares trials by their evaluation")
    inexact = {
        "auto_find_batch_size": args.auto_find_batch_size,
        "ignore_data_skip": args.ignore_data_skip,
        "enable_jit_checkpoint": args.enable_jit_checkpoint,
        "training by several processes": args.world_size > 1,
        "DeepSpeed": trainer.is_deepspeed_enabled,
        "FSDP": trainer.is_fsdp_enabled,
    }
    for what, used in inexact.items():
        if used:
            raise BadInput(f"ablate cannot resume this Trainer exactly: {what}; switch it off")
    if missing := [name for name in LOADERS if not hasattr(trainer, name)]:
        raise BadInput(f"this version of transformers has no Trainer.{missing[0]}; install transformers 5.23")


def _adopt(trainer: Any, context: Context) -> None:
    """Set the Trainer's seed and folder to the trial's, limit it to one device, and silence it."""
    args = trainer.args
    for talkative in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(talkative)
    args.disable_tqdm = True
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # The Trainer created this folder when it was constructed.
    with contextlib.suppress(OSError):
        os.rmdir(str(args.output_dir))
    args.output_dir = str(context.workdir / "transformers")
    if args.load_best_model_at_end:
        args.save_only_model, args.save_total_limit = True, 1
    else:
        args.save_strategy = SaveStrategy.NO
    if args.n_gpu > 1:
        args._n_gpu = 1
        trainer._train_batch_size = args.train_batch_size
    # Processes that outlive an evaluation would have generators that are in no checkpoint.
    args.dataloader_persistent_workers = False
    args.seed = context.seed
    enable_full_determinism(args.seed) if args.full_determinism else set_seed(args.seed)
    make_loader = trainer.get_train_dataloader

    def make_seeded_loader() -> Any:
        loader = make_loader()
        seed_batches(loader, context.seed)
        return loader

    vars(trainer)["get_train_dataloader"] = make_seeded_loader


def _loadable(trainer: Any, state: dict[str, Any]) -> str:
    """Return a folder that the Trainer resumes from. It has only the counters; everything else is loaded from `state`."""
    folder = Path(str(trainer.args.output_dir))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINER_STATE_NAME).write_text(json.dumps(_counters(trainer, state)))
    trainer.args.eval_on_start = False

    def load_optimizer_and_scheduler(_: str) -> None:
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.lr_scheduler.load_state_dict(state["scheduler"])

    def load_scaler(_: str) -> None:
        if state["scaler"] is not None:
            trainer.accelerator.scaler.load_state_dict(state["scaler"])

    vars(trainer).update(
        _load_from_checkpoint=lambda folder, model=None: trainer.model.load_state_dict(state["model"]),
        _load_optimizer_and_scheduler=load_optimizer_and_scheduler,
        _load_scaler=load_scaler,
        # The Trainer calls this before the first batch of an epoch is
        # fetched or, within an epoch, after the first step's batches.
        _load_rng_state=lambda folder: restore_generators(state["generators"]),
    )
    return str(folder)


def _load_finished(trainer: Any, state: dict[str, Any]) -> None:
    """Load a finished training run whose evaluation is missing."""
    trainer.model.load_state_dict(state["model"])
    trainer.state = TrainerState(**_counters(trainer, state))
    restore_generators(state["generators"])


def _counters(trainer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the saved `TrainerState`; the folder may have moved since."""
    counters: dict[str, Any] = json.loads(state["counters"])
    if best := counters["best_model_checkpoint"]:
        counters["best_model_checkpoint"] = str(Path(str(trainer.args.output_dir), Path(best).name))
    return counters


def _remove_checkpoints(trainer: Trainer) -> None:
    folder = Path(str(trainer.args.output_dir))
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(checkpoint)
    (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
    # Any other files belong to the user's callbacks.
    with contextlib.suppress(OSError):
        folder.rmdir()


class _Follower(TrainerCallback):
    """Reports what the Trainer logs, and offers checkpoints when everything that belongs to a step is done.

    `on_step_end` is too early, since the step's logs, evaluation and early stopping come after it; so checkpoints are offered
    at the beginning of the next step or epoch. Within an epoch the generators are saved after the step's batches were fetched,
    and between epochs before the data loader begins: the same points at which a resuming Trainer restores them."""

    def __init__(self, trainer: Trainer, context: Context, resumed: dict[str, Any] | None) -> None:
        self._trainer: Any = trainer
        self._context, self._resumed = context, resumed
        self._seen = 0 if resumed is None else json.loads(resumed["counters"])["global_step"]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if missing := [name for name in SUMS if not hasattr(self._trainer, name)]:
            raise BadInput(
                f"this version of transformers has no Trainer.{missing[0]}; install transformers 5.23"
            )
        if self._resumed is not None:
            for name, value in self._resumed["sums"].items():
                setattr(self._trainer, name, _on(self._trainer.args.device, value))

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._between("epoch")

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._between("step")

    def _between(self, at: str) -> None:
        if self._resumed is not None:
            if self._resumed["at"] == at:
                self._restore_callbacks(self._resumed["callbacks"])
                self._resumed = None
        elif self._trainer.state.global_step > self._seen:
            self.checkpoint(at)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        cut = control.should_epoch_stop or not has_length(self._trainer.train_dataset)
        if cut and not control.should_training_stop and state.global_step < state.max_steps:
            raise BadInput(
                f"an epoch ended early, at step {state.global_step}: transformers cannot resume after it; use a dataset "
                "that has a length, and no callback that sets should_epoch_stop"
            )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Skips the evaluation of the best model, which belongs to no step.
        if self._trainer.is_in_train:
            self._context.report(state.global_step, _named(kwargs["logs"]))

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._context.report(state.global_step, {})

    def checkpoint(self, at: str) -> None:
        """Offer the state at the beginning of a step or an epoch, or at the end of training."""
        self._seen = self._trainer.state.global_step
        self._context.checkpoint(self._seen, lambda: self._state(at))

    def _state(self, at: str) -> dict[str, Any]:
        trainer = self._trainer
        # Schedule-free optimizers have other weights for evaluation.
        if at == "end" and hasattr(trainer.optimizer, "eval"):
            trainer.optimizer.eval()
        # The Trainer keeps the best model in a folder, not in its state.
        if trainer.state.best_model_checkpoint:
            sync_tree(Path(trainer.state.best_model_checkpoint))
        scaler = trainer.accelerator.scaler
        return {
            "at": at,
            "counters": json.dumps(dataclasses.asdict(trainer.state)),
            "sums": {name: getattr(trainer, name) for name in SUMS},
            "model": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.lr_scheduler.state_dict(),
            "scaler": scaler and scaler.state_dict(),
            "generators": generator_states(),
            "callbacks": [callback.state() for callback in self._exportable()],
        }

    def _restore_callbacks(self, states: Sequence[Mapping[str, Any]]) -> None:
        for callback, state in zip(self._exportable(), states, strict=True):
            vars(callback).update(state["attributes"])

    def _exportable(self) -> list[Any]:
        return [
            each for each in self._trainer.callback_handler.callbacks if isinstance(each, ExportableState)
        ]


def _on(device: torch.device, value: Any) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _named(logs: Mapping[str, Any], suffix: str = "") -> dict[str, float]:
    """Return the Trainer's logs under our names: `eval_loss` is `dev/loss`, `loss` is `train/loss`."""
    named = {}
    for name, value in logs.items():
        if name.startswith("train_") or name.endswith(TIMINGS) or not isinstance(value, int | float):
            continue
        split, metric = ("dev", name.removeprefix("eval_")) if name.startswith("eval_") else ("train", name)
        named[f"{split}/{metric}{suffix}"] = float(value)
    return named


def _evaluated(
    trainer: Trainer,
    context: Context,
    predictions: str | None,
    ids: Sequence[str] | None,
    clusters: Sequence[str] | None,
) -> dict[str, float]:
    """Evaluate the model, keep the predictions if requested, and return the metrics."""
    last = [_named(logs, "@last") for logs in trainer.state.log_history if _is_evaluation(logs)]
    best = last[-1] if last and trainer.args.load_best_model_at_end else {}
    if predictions is None:
        return _named(trainer.evaluate()) | best
    # Keep the items in the dataset's order: ordering by length depends on the seed.
    trainer.args.train_sampling_strategy = "sequential"
    whole: Any = trainer.eval_dataset
    sets = whole if isinstance(whole, dict) else {"": whole}
    metrics: dict[str, Any] = {}
    for name, dataset in sets.items():
        output = trainer.predict(dataset, metric_key_prefix=f"eval_{name}" if name else "eval")
        task = f"{name}_{predictions}" if name else predictions
        predicted, gold = _items(task, output.predictions, output.label_ids)
        context.predictions("dev", task, _ids(dataset, len(gold), ids), predicted, gold, clusters)
        metrics.update(output.metrics or {})
    return _named(metrics) | best


def _is_evaluation(logs: Mapping[str, Any]) -> bool:
    return any(name.startswith("eval_") for name in logs)


def _items(task: str, outputs: Any, labels: Any) -> tuple[list[float], list[float]]:
    """Return the prediction and the label of each item."""
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    if outputs is None or labels is None or np.ndim(labels) != 1 or np.ndim(outputs) > 2:
        raise BadInput(
            f"predictions={task!r}: the outputs are not one class or value per item (outputs {np.shape(outputs)}, labels "
            f"{np.shape(labels)}); leave it out, and pass your own predictions, from trainer.predict(...), to context.predictions"
        )
    if outputs.ndim == 2:
        outputs = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0]
    return outputs.tolist(), labels.tolist()


def _ids(dataset: Any, n: int, ids: Sequence[str] | None) -> list[str]:
    if ids is not None:
        return list(ids)
    known = dataset["id"] if "id" in getattr(dataset, "column_names", ()) else range(n)
    return [str(each) for each in known]
