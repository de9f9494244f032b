"""Train one part: stages of optimizer steps over one encoder and its heads. Resuming at any step gives bit-identical results.

All randomness comes from the trial's seed: weights (each head and the tiny encoder have their own derived seed, so that none
depends on the others), dropout (torch's generator, saved), the order of the data (a function of the step), the order in which
surgery visits tasks (its own generator, saved).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.contract import Context
from ablate.errors import TrialError
from ablate.trainer.data.tokens import Indices
from ablate.trainer.encoders.depth import rate_shares
from ablate.trainer.encoders.embedding import Embedder, Frozen, Live, Pair
from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.encoders.generators import Generators, generators_of, repeating
from ablate.trainer.encoders.loading import load_encoder
from ablate.trainer.encoders.lora import Lora, LowRank
from ablate.trainer.encoders.micro_batches import MicroBatches
from ablate.trainer.prefixes import FIRST_PASS, prefixes, stage_name
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import TaskHead, build_head
from ablate.trainer.tasks.metrics import Numbers, scores
from ablate.trainer.tasks.objectives import class_weights, refuse_no_positive
from ablate.trainer.tasks.r_drop import r_drop_loss
from ablate.trainer.tasks.registry import mean_score
from ablate.trainer.tasks.task import Task
from ablate.trainer.training.balancing import build_balancing
from ablate.trainer.training.determinism import (
    catch_out_of_memory,
    derive_seed,
    deterministic,
    keep_freed_memory,
)
from ablate.trainer.training.optimizing import Optimizer
from ablate.trainer.training.patience import Patience
from ablate.trainer.training.saving import save_results
from ablate.trainer.training.scoring import Evaluation, keep_predictions, predict, stated_metrics
from ablate.trainer.training.stages import Stage, amounts, ended, plan_stages, steps_of
from ablate.trainer.training.surgery import Surgeon
from ablate.trainer.training.token_cache import tokens_of

CURVE_POINTS = 100  # the most points in the curve of a training loss

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
        # Hangs are detected from the first report on; this one comes
        # early, since loading data and weights may hang on a network.
        context.report(0, {})
        self.device = torch.device(context.device)
        self.tokens = tokens_of(settings, context.cache)
        seed = derive_seed(context.seed, "encoder")
        self.encoder = load_encoder(settings, self.tokens.vocab_size, seed, self.device)
        self.heads = {task.name: self._new_head(task) for task in settings.trained}
        self.flats = {task: Flat(head) for task, head in self.heads.items()}
        self.lora = None
        if settings.lora.rank:
            self.lora = Lora(self.encoder, settings.lora, derive_seed(context.seed, "lora"))
        if not settings.freeze_encoder:
            self.flats["encoder"] = self.lora.flat if self.lora else self.encoder.flat
        self.embedder = self._new_embedder()
        self.sizes = {task: self.tokens.tasks[task]["train"].n for task in settings.tasks}
        self.stages = plan_stages(settings, self.sizes, context.seed)
        self.planned_steps = steps_of(self.stages)
        self.prefixes = prefixes(settings).keys()
        context.facts |= (
            self.tokens.facts | amounts(self.stages, self.sizes) | stated_metrics(settings.trained)
        )
        self.last: Evaluation | None = None
        self.best: tuple[Evaluation, dict[str, Tensor]] | None = None  # with the weights at that step
        torch.manual_seed(derive_seed(context.seed, "dropout"))
        self._enter(0)
        if (state := context.restore()) is not None:
            self._restore(state)

    def _new_head(self, task: Task) -> TaskHead:
        torch.manual_seed(derive_seed(self.context.seed, f"head {task.name}"))
        settings, hidden = self.settings, self.encoder.hidden_size
        labels = self._gold(task.name, "train")
        refuse_no_positive(task, labels)
        chosen = class_weights(task, labels)
        weights = None if chosen is None else torch.tensor(chosen, device=self.device)
        head = build_head(
            task, settings.head_of(task), hidden, settings.dense_size, settings.dropout, weights
        )
        return head.to(self.device)

    def _new_embedder(self) -> Embedder:
        live = Live(self.encoder, self.tokens, self.settings, self.device)
        if self.settings.freeze_encoder:
            return Frozen(live, self.context.cache)
        embedder: Embedder = live
        if self.settings.micro_batch:
            trained = self.lora.matrices if self.lora else self.encoder.flat
            embedder = MicroBatches(live, self.settings.micro_batch, trained)
        return LowRank(embedder, self.lora) if self.lora else embedder

    def run(self) -> dict[str, float]:
        """Continue from the current state to the end."""
        # Embedding all text may take long. Doing it first allows the run to be stopped meanwhile.
        if self.settings.freeze_encoder:
            for task in self.settings.tasks:
                self.embedder.whole(task, "train", self._checkpoint)
        self._run_stage()
        while self.stage_number + 1 < len(self.stages):
            self._enter(self.stage_number + 1)
            self._run_stage()
        return self._finish()

    @property
    def stage(self) -> Stage:
        """The stage that is being trained."""
        return self.stages[self.stage_number]

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the part began."""
        return self.stage.begins + self.step

    def _enter(self, number: int) -> None:
        """Begin a stage: it has its own optimizer and schedule; the heads of other tasks are not trained."""
        self.stage_number = number
        self.step = 0  # optimizer steps done in this stage
        trained = {name: flat for name, flat in self.flats.items() if name in (*self.stage.tasks, "encoder")}
        steps_per_epoch = self.stage.mixture.steps_per_epoch
        self.balancing = build_balancing(self.settings, self.stage.tasks, steps_per_epoch, self.device)
        trained |= self.balancing.flats
        self.optimizer = Optimizer(trained, self.settings, self.stage.steps, self._rate_shares())
        self.window: dict[str, list[float]] = {}  # curve -> values since its last point
        self.patience = Patience(self.settings.patience)
        self.surgeon = None
        self.encoder_gradients = self.optimizer.gradients.get("encoder")  # None if it is frozen
        if self.settings.surgery != "none":
            seed = derive_seed(self.context.seed, "surgery")
            encoder, tasks = self.flats["encoder"], self.stage.tasks
            self.surgeon = Surgeon(self.settings.surgery, encoder, tasks, seed, self.settings.main_task)
            self.encoder_gradients = Gradients(encoder, tasks)
        for task in self.stage.tasks:
            self.flats[task].add_gradients_to(self.optimizer.gradients[task].places())

    def _rate_shares(self) -> dict[Tensor, float]:
        decay = self.settings.lr.layer_decay
        shares = {} if decay == 1 else rate_shares(self.encoder.module, decay)
        return self.lora.shares(shares) if self.lora and shares else shares

    def _run_stage(self) -> None:
        every = max(1, math.ceil(self.stage.steps / CURVE_POINTS))
        while True:
            if self._evaluation_is_due():
                self._evaluate()
            if self.step == self.stage.steps:
                return
            if self.patience.is_exhausted:
                self._stop_early()
                return
            self._take_step()
            self.step += 1
            if self.step % every == 0 or self.step == self.stage.steps:
                self._report_window()
            for name in self._prefixes_that_end():
                self.context.prefix(name, self.steps_done, self.state)
            self._checkpoint()

    def _prefixes_that_end(self) -> list[str]:
        """Return the prefixes that are trained with the step just taken."""
        begins_again = min(self.stage.mixture.first_pass, self.stage.steps)
        ends = {
            FIRST_PASS: self.stage_number == 0 and self.step == begins_again,
            stage_name(self.stage_number + 1): self.step == self.stage.steps,
        }
        return [name for name, here in ends.items() if here and name in self.prefixes]

    def _stop_early(self) -> None:
        if self.window:
            self._report_window()
        self.stages = ended(self.stages, self.stage_number, self.step)

    # One step -----------------------------------------------------------------------------------------------

    def _take_step(self) -> None:
        batches = self.stage.mixture.step(self.step)
        generators = generators_of(self.device)
        detached = self._descend(batches)
        self.balancing.before_step(detached, self.optimizer.gradients)
        curves = None if self.surgeon is None else self._combine(self.surgeon)
        taking_part = [name for name in self.flats if name in batches or name == "encoder"]
        norm = self.optimizer.step(self.step, [*taking_part, *self.balancing.flats])
        # The host waits for the device only here, in surgery (for its Gramian) and in famo (for the losses after the step).
        values = torch.stack([*detached.values(), *([] if norm is None else [norm])]).tolist()
        losses = self._finite(dict(zip(detached, values, strict=False)))
        for task, value in losses.items():
            self.window.setdefault(f"train/{task}", []).append(value)
        if curves == {}:
            raise self._failed(f"train/{', '.join(batches)}: a gradient is not finite")
        for name, value in (curves or {}).items():
            self.window.setdefault(name, []).append(value)
        if norm is not None and not math.isfinite(values[-1]):
            raise self._failed(f"train/{', '.join(batches)}: the gradient's norm is {values[-1]}")
        self.balancing.after_step(losses, lambda: self._losses_again(batches, generators))

    def _combine(self, surgeon: Surgeon) -> dict[str, float]:
        apart, combined = self.encoder_gradients, self.optimizer.gradients["encoder"]
        assert apart is not None, "there is no surgery on a frozen encoder"
        combined.read_rows(apart.words)
        return surgeon.combine(apart, combined)

    def _finite(self, losses: dict[str, float]) -> dict[str, float]:
        for task, value in losses.items():
            if not math.isfinite(value):
                raise self._failed(f"train/{task}: the loss is {value}")
        return losses

    def _failed(self, what: str) -> TrialError:
        return TrialError(f"step {self.steps_done + 1}: {what}; try a lower learning rate or precision: fp32")

    def _descend(self, batches: Mapping[str, Indices]) -> dict[str, Tensor]:
        """Compute the gradients of all tasks and return their losses, detached."""
        losses: dict[str, Tensor] = {}
        for task in batches:
            self.optimizer.gradients[task].clear()
        for pairs in self._embedded(batches, self.encoder_gradients):
            with_graph = {task: self._loss(task, batches[task], pair) for task, pair in pairs.items()}
            self.balancing.total(with_graph).backward()  # type: ignore[no-untyped-call]
            losses |= {task: loss.detach() for task, loss in with_graph.items()}
        return losses

    def _losses_again(self, batches: Mapping[str, Indices], generators: Generators) -> dict[str, float]:
        """Recompute the losses of a step's batches after the update, with the same dropout."""
        losses: dict[str, Tensor] = {}
        with torch.no_grad(), repeating(generators, self.device):
            for pairs in self._embedded(batches, None):
                losses |= {task: self._loss(task, batches[task], pair) for task, pair in pairs.items()}
        return self._finite(dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True)))

    def _embedded(
        self, batches: Mapping[str, Indices], gradients: Gradients | None
    ) -> Iterator[dict[str, Pair]]:
        """Embed a step's items; with R-Drop, all of them twice."""
        passes = 2 if self.settings.r_drop else 1
        items = {task: np.tile(indices, passes) for task, indices in batches.items()}
        return self.embedder.batches(items, gradients)

    def _loss(self, task: str, indices: Indices, pair: Pair) -> Tensor:
        head, gold = self.heads[task], self._gold(task, "train")[indices]
        labels = torch.from_numpy(gold).to(self.device)
        if self.settings.r_drop:
            return r_drop_loss(head, pair, labels, self.settings.r_drop)
        loss: Tensor = head.loss(head(*pair), labels)
        return loss

    # Evaluation on dev --------------------------------------------------------------------------------------

    def _evaluation_is_due(self) -> bool:
        every = self.settings.eval_every or self.stage.mixture.steps_per_epoch
        return self.step == self.stage.steps or (self.step > 0 and self.step % every == 0)

    def _evaluate(self) -> None:
        """Score the tasks trained so far. Uses no randomness, since a resumed run may repeat it."""
        begun = {name for stage in self.stages[: self.stage_number + 1] for name in stage.tasks}
        metrics: dict[str, float] = {}
        predicted: dict[str, Tensor] = {}
        for task in self.settings.trained:
            if task.name not in begun:
                continue
            where = f"step {self.steps_done}: dev/{task.name}"
            embedded = self.embedder.whole(task.name, "dev", self._checkpoint)
            predicted[task.name] = predict(self.heads[task.name], embedded, where)
            metrics |= scores(task, predicted[task.name], self._gold(task.name, "dev"), where)
        self.last = Evaluation(self.steps_done, metrics, predicted)
        self.context.report(self.steps_done, self.last.named(self.settings.trained))
        self.patience.see(self._score_of_stage(metrics))
        if self.settings.select == "best" and self.stage is self.stages[-1]:
            self._keep_if_best(self.last)

    def _score_of_stage(self, metrics: Mapping[str, float]) -> float:
        tasks = [task for task in self.settings.trained if task.name in self.stage.tasks]
        # A single task counts whatever its weight, which may be 0.
        return mean_score(metrics, tasks) if len(tasks) > 1 else tasks[0].in_mean(metrics[tasks[0].name])

    def _keep_if_best(self, new: Evaluation) -> None:
        tasks = self.settings.trained
        if self.best is None or mean_score(new.metrics, tasks) > mean_score(self.best[0].metrics, tasks):
            self.best = (new, {name: flat.values.clone() for name, flat in self.flats.items()})

    def _gold(self, task: str, split: str) -> Numbers:
        labels = self.tokens.tasks[task][split].labels
        assert labels is not None, "train and dev splits without labels are refused when they are read"
        return labels

    def _finish(self) -> dict[str, float]:
        assert self.last is not None, "the last step is always evaluated"
        chosen, tasks = self.last, self.settings.trained
        metrics = chosen.named(tasks)
        if (taken := steps_of(self.stages)) < self.planned_steps:
            early = {"stopped_early": {"steps": taken, "of": self.planned_steps}}
            self.context.facts |= amounts(self.stages, self.sizes) | early
        if self.best is not None:
            chosen, weights = self.best
            for name, values in weights.items():
                self.flats[name].values.copy_(values)
            if self.lora:
                self.lora.merge()
            metrics = chosen.named(tasks) | self.last.named(tasks, "@last")
        for task in tasks:
            items = self.tokens.tasks[task.name]["dev"]
            keep_predictions(self.context, "dev", task, items, chosen.predicted[task.name])
        save_results(self.context.workdir, self.settings, self.encoder, self.heads, self.tokens)
        return metrics

    # Curves, checkpoints ------------------------------------------------------------------------------------

    def _report_window(self) -> None:
        means = {name: math.fsum(values) / len(values) for name, values in self.window.items()}
        means |= {f"balancing/weight.{task}": value for task, value in self.balancing.weights().items()}
        self.context.report(self.steps_done, means)
        self.window = {}

    def _checkpoint(self) -> None:
        self.context.checkpoint(self.steps_done, self.state)

    def state(self) -> State:
        """Return everything that determines the next steps, as plain values and tensors.

        The tensors are the live ones: the state must be written before the next step."""
        best = None
        if self.best is not None:
            best = {"evaluation": dict(vars(self.best[0])), "weights": self.best[1]}
        return {
            "stage": self.stage_number,
            "ended": [stage.steps for stage in self.stages[: self.stage_number]],
            "step": self.step,  # with the seed, also the position in the data and in the schedule
            "weights": {name: self.flats[name].values for name in self._names_begun()},
            # The next stage has its own.
            "optimizer": self.optimizer.state() if self.step < self.stage.steps else None,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "surgery": self.surgeon.state() if self.surgeon is not None else None,
            "balancing": self.balancing.state(),
            "window": self.window,
            "patience": self.patience.state(),
            "best": best,
        }

    def _names_begun(self) -> list[str]:
        """Return the names of the weights that have been trained. Heads of later stages are as they are drawn from the seed."""
        begun = {name for stage in self.stages[: self.stage_number + 1] for name in stage.tasks}
        return [name for name in self.flats if name in begun or name == "encoder"]

    def _restore(self, state: State) -> None:
        # States saved before early stopping existed have neither `ended` nor `patience`.
        for number, steps in enumerate(state.get("ended", ())):
            self.stages = ended(self.stages, number, int(steps))
        self._enter(int(state["stage"]))
        self.step = int(state["step"])
        for name, values in state["weights"].items():
            self.flats[name].values.copy_(values)
        if state["optimizer"] is not None:
            self.optimizer.restore(state["optimizer"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        if self.surgeon is not None:
            self.surgeon.restore(state["surgery"])
        # Checkpoints saved before balancing existed have no such state.
        if state.get("balancing"):
            self.balancing.restore(state["balancing"])
        self.window = {name: list(values) for name, values in state["window"].items()}
        if "patience" in state:
            self.patience.restore(state["patience"])
        if state["best"] is not None:
            weights = {name: values.to(self.device) for name, values in state["best"]["weights"].items()}
            self.best = (Evaluation(**state["best"]["evaluation"]), weights)
