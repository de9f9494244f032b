"""Train one part: stages of optimizer steps over one encoder and its heads, resumable to the bit at every
step.

All that is random comes from the trial's seed: weights (each head and the tiny encoder from its own derived
seed, so that one does not depend on the others), dropout (torch's generator, saved), the order of the data (a
function of the step), the order in which surgery visits tasks (its own generator, saved).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ablate.contract import Context
from ablate.errors import TrialError
from ablate.trainer.data.tokens import Indices
from ablate.trainer.encoders.embedding import Embedder, Frozen, Live, Pair
from ablate.trainer.encoders.flat import Flat, Gradients
from ablate.trainer.encoders.loading import load_encoder
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import build_head
from ablate.trainer.tasks.metrics import Numbers, metric
from ablate.trainer.training.machine import catch_out_of_memory, derive_seed, deterministic, keep_freed_memory
from ablate.trainer.training.optimizing import Optimizer
from ablate.trainer.training.saving import save_results
from ablate.trainer.training.scoring import Evaluation, evaluation_from, keep_predictions, predict
from ablate.trainer.training.stages import amounts, plan_stages
from ablate.trainer.training.surgery import Surgeon
from ablate.trainer.training.warm import tokens_of

CURVE_POINTS = 100  # of a training loss, at most

State = dict[str, Any]


def train_part(settings: Settings, context: Context) -> dict[str, float]:
    """Train `settings` to the end and return `dev/<task>`, `dev/mean` and, with `select: best`, `...@last`."""
    keep_freed_memory()
    with deterministic(context.device), catch_out_of_memory(context.device):
        return Training(settings, context).run()


class Training:
    """One part being trained. `state` lists everything that resuming needs."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self.settings, self.context = settings, context
        context.report(0, {})  # from here on a hang is noticed: data and weights come from a network
        self.device = torch.device(context.device)
        self.tokens = tokens_of(settings, context.cache)
        self.encoder = load_encoder(
            settings, self.tokens.vocab_size, derive_seed(context.seed, "encoder"), self.device
        )
        self.heads = {}
        for task in settings.tasks:
            torch.manual_seed(derive_seed(context.seed, f"head {task}"))
            self.heads[task] = build_head(task, self.encoder.hidden_size, settings).to(self.device)
        self.flats = {task: Flat(head) for task, head in self.heads.items()}
        if not settings.freeze_encoder:
            self.flats["encoder"] = self.encoder.flat
        live = Live(self.encoder, self.tokens, settings, self.device)
        self.embedder: Embedder = Frozen(live, context.cache) if settings.freeze_encoder else live
        context.facts |= {
            "data": self.tokens.data_hash,
            "tokenizer": self.tokens.tokenizer_hash,
            "dev_rows_in_train": {task: self.tokens.dev_rows_in_train[task] for task in settings.tasks},
        }
        if dropped := self.tokens.dropped_rows:
            context.facts["dropped_rows"] = dropped
        sizes = {task: self.tokens.tasks[task]["train"].n for task in settings.tasks}
        self.stages = plan_stages(settings, sizes, context.seed)
        context.facts |= amounts(self.stages, sizes)
        self.last: Evaluation | None = None
        self.best: tuple[Evaluation, dict[str, Tensor]] | None = None  # with the weights of that moment
        torch.manual_seed(derive_seed(context.seed, "dropout"))
        self._enter(0)
        if (state := context.restore()) is not None:
            self._restore(state)

    def run(self) -> dict[str, float]:
        """Go on from where the state is to the end."""
        if self.settings.freeze_encoder:  # now, since it may take long and the run can be stopped meanwhile
            for task in self.settings.tasks:
                self.embedder.whole(task, "train", self._checkpoint)
        while True:
            self._run_stage()
            if self.stage is self.stages[-1]:
                return self._finish()
            self._enter(self.stages.index(self.stage) + 1)

    def _enter(self, number: int) -> None:
        """Begin a stage: its own optimizer and schedule; heads of other tasks rest."""
        self.stage = self.stages[number]
        self.step = 0  # optimizer steps done in this stage
        trained = {name: flat for name, flat in self.flats.items() if name in (*self.stage.tasks, "encoder")}
        self.optimizer = Optimizer(trained, self.settings, self.stage.steps)
        self.window: dict[str, list[float]] = {}  # curve -> values since its last point
        self.surgeon = None
        self.encoder_gradients = self.optimizer.gradients.get("encoder")  # None when it is frozen
        if self.settings.surgery != "none" and self.encoder_gradients is not None:
            seed = derive_seed(self.context.seed, "surgery")
            self.surgeon = Surgeon(self.settings.surgery, self.stage.tasks, seed)
            self.encoder_gradients = Gradients(self.encoder.flat, self.stage.tasks)
        for task in self.stage.tasks:
            self.flats[task].add_gradients_to(self.optimizer.gradients[task].places())

    def _run_stage(self) -> None:
        every = max(1, math.ceil(self.stage.steps / CURVE_POINTS))
        while True:
            if self._evaluation_is_due():
                self._evaluate()
            if self.step == self.stage.steps:
                return
            self._take_step()
            self.step += 1
            if self.step % every == 0 or self.step == self.stage.steps:
                self._report_window()
            self._checkpoint()

    # One step -----------------------------------------------------------------------------------------------

    def _take_step(self) -> None:
        batches = self.stage.mixture.step(self.step)
        losses = self._descend(batches)
        values = torch.stack(list(losses.values())).tolist()  # one transfer from the device
        for task, value in zip(losses, values, strict=True):
            if not math.isfinite(value):
                raise self._failed(f"train/{task}: the loss is {value}")
            self.window.setdefault(f"train/{task}", []).append(value)
        if self.surgeon is not None:
            curves = self._combine(self.surgeon)
            if not curves:
                raise self._failed(f"train/{', '.join(batches)}: a gradient is not finite")
            for name, value in curves.items():
                self.window.setdefault(name, []).append(value)
        taking_part = [name for name in self.flats if name in batches or name == "encoder"]
        norm = self.optimizer.step(self.step, taking_part)
        if norm is not None and not math.isfinite(norm):
            raise self._failed(f"train/{', '.join(batches)}: the gradient's norm is {norm}")

    def _combine(self, surgeon: Surgeon) -> dict[str, float]:
        apart, combined = self.encoder_gradients, self.optimizer.gradients["encoder"]
        assert apart is not None, "there is no surgery on a frozen encoder"
        combined.read_rows(apart.words)
        return surgeon.combine(apart.pieces(), [piece[0] for piece in combined.pieces()])

    def _failed(self, what: str) -> TrialError:
        return TrialError(
            f"step {self.steps_done + 1}: {what}; a lower learning rate or precision: fp32 would do"
        )

    def _descend(self, batches: Mapping[str, Indices]) -> dict[str, Tensor]:
        """Compute the gradients of all tasks and return their losses. The graphs are gone afterwards."""
        losses: dict[str, Tensor] = {}
        for task in batches:
            self.optimizer.gradients[task].clear()
        for pairs in self.embedder.batches(batches, self.encoder_gradients):
            found = {task: self._loss(task, batches[task], pair) for task, pair in pairs.items()}
            torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
            losses |= {task: loss.detach() for task, loss in found.items()}
        return losses

    def _loss(self, task: str, indices: Indices, pair: Pair) -> Tensor:
        head, gold = self.heads[task], self._gold(task, "train")[indices]
        loss: Tensor = head.loss(head(*pair), torch.from_numpy(gold).to(self.device))
        return loss

    # Looking at dev -----------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        every = self.settings.eval_every or self.stage.mixture.steps_per_epoch
        return self.step == self.stage.steps or (self.step > 0 and self.step % every == 0)

    def _evaluate(self) -> None:
        """Score the tasks trained so far. Draws nothing at random: a resumed run may do it again."""
        tasks = [task for stage in self.stages[: self.stages.index(self.stage) + 1] for task in stage.tasks]
        where = f"step {self.steps_done}: dev"
        predicted = {
            task: predict(
                self.heads[task], self.embedder.whole(task, "dev", self._checkpoint), f"{where}/{task}"
            )
            for task in tasks
        }
        metrics = {
            task: metric(task, values, self._gold(task, "dev"), f"{where}/{task}")
            for task, values in predicted.items()
        }
        self.last = Evaluation(self.steps_done, metrics, predicted)
        self.context.report(self.steps_done, self.last.named("dev", tasks=self.settings.tasks))
        choosing = self.settings.select == "best" and self.stage is self.stages[-1]
        if choosing and (self.best is None or self.last.score > self.best[0].score):
            self.best = (self.last, {name: flat.values.clone() for name, flat in self.flats.items()})

    def _gold(self, task: str, split: str) -> Numbers:
        labels = self.tokens.tasks[task][split].labels
        assert labels is not None, "sources refuse train and dev splits without labels"
        return labels

    def _finish(self) -> dict[str, float]:
        assert self.last is not None, "the last step is always evaluated"
        tasks = self.settings.tasks
        chosen, found = self.last, self.last.named("dev", tasks=tasks)
        if self.best is not None:
            chosen, weights = self.best
            for name, values in weights.items():
                self.flats[name].values.copy_(values)
            found = chosen.named("dev", tasks=tasks) | self.last.named("dev", "@last", tasks)
        for task, predicted in chosen.predicted.items():
            keep_predictions(self.context, "dev", task, self.tokens.tasks[task]["dev"], predicted)
        save_results(self.context.workdir, self.settings, self.encoder, self.heads, self.tokens)
        return found

    # Curves, checkpoints ------------------------------------------------------------------------------------

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the part began."""
        return self.stage.begins + self.step

    def _report_window(self) -> None:
        self.context.report(
            self.steps_done, {name: math.fsum(seen) / len(seen) for name, seen in self.window.items()}
        )
        self.window = {}

    def _checkpoint(self) -> None:
        self.context.checkpoint(self.steps_done, self.state)

    def state(self) -> State:
        """Return all that decides what comes next: plain values and tensors, to be written before the next
        step."""
        best = None
        if self.best is not None:
            best = {"evaluation": self.best[0].state(), "weights": self.best[1]}
        return {
            "stage": self.stages.index(self.stage),
            "step": self.step,  # with the seed, also the place in the data and in the schedule
            "weights": {name: flat.values for name, flat in self.flats.items()},
            "optimizer": self.optimizer.state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "surgery": self.surgeon.state() if self.surgeon is not None else None,
            "window": self.window,
            "best": best,
        }

    def _restore(self, state: State) -> None:
        self._enter(int(state["stage"]))
        self.step = int(state["step"])
        for name, values in state["weights"].items():
            self.flats[name].values.copy_(values)
        self.optimizer.restore(state["optimizer"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        if self.surgeon is not None:
            self.surgeon.restore(state["surgery"])
        self.window = {name: list(values) for name, values in state["window"].items()}
        if state["best"] is not None:
            weights = {name: values.to(self.device) for name, values in state["best"]["weights"].items()}
            self.best = (evaluation_from(state["best"]["evaluation"]), weights)
