"""Train one part: stages of optimizer steps over one encoder and its heads. Resuming at any step gives bit-identical results.

All randomness comes from the trial's seed: weights (each head and the tiny encoder have their own derived seed, so that none
depends on the others), dropout (torch's generator, saved), the order of the data (a function of the step), the order in which
surgery visits tasks (its own generator, saved).
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
from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.encoders.loading import load_encoder
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import TaskHead, build_head
from ablate.trainer.tasks.metrics import Numbers, scores
from ablate.trainer.tasks.registry import mean_score
from ablate.trainer.tasks.task import Task
from ablate.trainer.training.machine import catch_out_of_memory, derive_seed, deterministic, keep_freed_memory
from ablate.trainer.training.optimizing import Optimizer
from ablate.trainer.training.saving import save_results
from ablate.trainer.training.scoring import Evaluation, keep_predictions, predict, stated_metrics
from ablate.trainer.training.stages import Stage, amounts, plan_stages
from ablate.trainer.training.surgery import Surgeon
from ablate.trainer.training.token_cache import tokens_of

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
        # From here on a hang is detected; loading data and weights may hang on a network.
        context.report(0, {})
        self.device = torch.device(context.device)
        self.tokens = tokens_of(settings, context.cache)
        seed = derive_seed(context.seed, "encoder")
        self.encoder = load_encoder(settings, self.tokens.vocab_size, seed, self.device)
        self.heads = {task.name: self._new_head(task) for task in settings.trained}
        self.flats = {task: Flat(head) for task, head in self.heads.items()}
        if not settings.freeze_encoder:
            self.flats["encoder"] = self.encoder.flat
        live = Live(self.encoder, self.tokens, settings, self.device)
        self.embedder: Embedder = Frozen(live, context.cache) if settings.freeze_encoder else live
        sizes = {task: self.tokens.tasks[task]["train"].n for task in settings.tasks}
        self.stages = plan_stages(settings, sizes, context.seed)
        context.facts |= self.tokens.facts | amounts(self.stages, sizes) | stated_metrics(settings.trained)
        self.last: Evaluation | None = None
        self.best: tuple[Evaluation, dict[str, Tensor]] | None = None  # with the weights of that moment
        torch.manual_seed(derive_seed(context.seed, "dropout"))
        self._enter(0)
        if (state := context.restore()) is not None:
            self._restore(state)

    def _new_head(self, task: Task) -> TaskHead:
        torch.manual_seed(derive_seed(self.context.seed, f"head {task.name}"))
        settings, hidden = self.settings, self.encoder.hidden_size
        head = build_head(task, settings.head_of(task), hidden, settings.dense_size, settings.dropout)
        return head.to(self.device)

    def run(self) -> dict[str, float]:
        """Continue from the current state to the end."""
        # Embedding all text may take long. Doing it first lets the run be stopped meanwhile.
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
        self.optimizer = Optimizer(trained, self.settings, self.stage.steps)
        self.window: dict[str, list[float]] = {}  # curve -> values since its last point
        self.surgeon = None
        self.encoder_gradients = self.optimizer.gradients.get("encoder")  # None if it is frozen
        if self.settings.surgery != "none":
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
        # One transfer from the device for all tasks.
        values = torch.stack(list(losses.values())).tolist()
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
        return TrialError(f"step {self.steps_done + 1}: {what}; try a lower learning rate or precision: fp32")

    def _descend(self, batches: Mapping[str, Indices]) -> dict[str, Tensor]:
        """Compute the gradients of all tasks and return their losses, without their graphs."""
        losses: dict[str, Tensor] = {}
        for task in batches:
            self.optimizer.gradients[task].clear()
        for pairs in self.embedder.batches(batches, self.encoder_gradients):
            with_graph = {task: self._loss(task, batches[task], pair) for task, pair in pairs.items()}
            torch.stack(list(with_graph.values())).sum().backward()  # type: ignore[no-untyped-call]
            losses |= {task: loss.detach() for task, loss in with_graph.items()}
        return losses

    def _loss(self, task: str, indices: Indices, pair: Pair) -> Tensor:
        head, gold = self.heads[task], self._gold(task, "train")[indices]
        loss: Tensor = head.loss(head(*pair), torch.from_numpy(gold).to(self.device))
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
        if self.settings.select == "best" and self.stage is self.stages[-1]:
            self._keep_if_best(self.last)

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
        if self.best is not None:
            chosen, weights = self.best
            for name, values in weights.items():
                self.flats[name].values.copy_(values)
            metrics = chosen.named(tasks) | self.last.named(tasks, "@last")
        for task in tasks:
            items = self.tokens.tasks[task.name]["dev"]
            keep_predictions(self.context, "dev", task, items, chosen.predicted[task.name])
        save_results(self.context.workdir, self.settings, self.encoder, self.heads, self.tokens)
        return metrics

    # Curves, checkpoints ------------------------------------------------------------------------------------

    def _report_window(self) -> None:
        means = {name: math.fsum(values) / len(values) for name, values in self.window.items()}
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
            "step": self.step,  # with the seed, also the position in the data and in the schedule
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
            self.best = (Evaluation(**state["best"]["evaluation"]), weights)
