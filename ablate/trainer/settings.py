"""Everything a study may set for this trainer, with defaults and units. Pure pydantic: torch is not loaded.

Unknown keys, text in place of numbers, NaN and infinity are refused. A default of `None` is derived as its description says.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from ablate.text import shown
from ablate.trainer.data.sources import Source
from ablate.trainer.declared_tasks import Count, DeclaredTask, faults_at
from ablate.trainer.tasks.registry import PAPER, TASKS, mean_of
from ablate.trainer.tasks.task import Task

Surgery = Literal[
    "none", "pcgrad", "gradvac", "upgrad", "dualproj", "aligned_mtl", "mgda", "imtl_g", "fairgrad"
]

Steps = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Rate = Annotated[float, Field(strict=True, gt=0, le=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Switch = Annotated[bool, Field(strict=True)]


class Frozen(BaseModel):
    """An immutable value without unknown keys, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# The settings that choose a head, by task; a task with one head has none.
HEADS = {task.name: f"{task.name}_head" for task in TASKS.values() if len(task.heads) > 1}


def _head_setting(task: Task) -> tuple[Any, Any]:
    """Return the type and default of the setting that chooses a task's head."""
    description = "; ".join(f"{name}: {words}" for name, words in task.heads.items())
    return Literal[*task.heads], Field(next(iter(task.heads)), description=description)


if TYPE_CHECKING:
    BatchSize = Frozen
    Data = Frozen
    HeadChoices = Frozen
else:  # with one field for each task: `sentiment`, .. and `paraphrase_head`, ..
    BatchSize = create_model("BatchSize", __base__=Frozen, **dict.fromkeys(TASKS, (Count, 16)))
    Data = create_model("Data", __base__=Frozen, **dict.fromkeys(TASKS, (Source, Source())))
    choices = {name: _head_setting(TASKS[task]) for task, name in HEADS.items()}
    HeadChoices = create_model("HeadChoices", __base__=Frozen, **choices)


class LearningRates(Frozen):
    """Peak learning rates of Adam."""

    encoder: Rate | None = Field(
        None, description="default: 2e-5; 1e-3 for `tiny`, which starts from scratch"
    )
    heads: Rate = 1e-3


class Settings(HeadChoices):
    """What a study may set for `ablate.trainer`. The tasks add `paraphrase_head` and `similarity_head`."""

    # What is trained, on what
    encoder: str = Field(
        "tiny",
        min_length=1,
        description="`tiny` (2 layers, hidden 128, from scratch), a folder, or a hub name",
    )
    tasks: tuple[str, ...] | dict[str, DeclaredTask] = Field(
        PAPER,
        description="the tasks to train, in any order: a list of names of built-in tasks, or a mapping that declares tasks; "
        "`data`, `batch_size` and heads then stand in each task",
    )
    data: Data = Field(
        Data(), description="where each task's examples come from; a task left out uses the built-in corpus"
    )
    max_length: Annotated[int, Field(strict=True, ge=4, le=8192)] = Field(
        128,
        description="tokens of a sentence (of a pair, for the head `cross`), [CLS] and [SEP] included; longer ones are cut",
    )

    # The model
    pooling: Literal["cls", "mean", "last"] = Field(
        "cls",
        description="a sentence's embedding: its first token, the mean of all its tokens, or its last token (for causal "
        "models such as GPT-2, whose first token sees no other)",
    )
    dense_size: Annotated[int, Field(strict=True, ge=0, le=65_536)] = Field(
        256, description="width of the dense layer of each head; 0 means none"
    )
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.1, description="in the encoder (hidden and attention) and before each layer of the heads"
    )
    freeze_encoder: Switch = Field(False, description="train the heads only, on embeddings computed once")

    # How the tasks are combined
    training: Literal["separate", "sequential", "joint"] = Field(
        "joint",
        description="one model per task; one model, task after task; one model, all tasks at each step",
    )
    mix: Literal["longest", "shortest", "alternate"] = Field(
        "longest",
        description="joint training of tasks of different size. A task's epoch is size / batch size steps. "
        "`longest`: an epoch ends when every task has been seen completely; shorter tasks start over meanwhile; "
        "`shortest`: it ends with the shortest task; longer tasks continue in the next epoch; "
        "`alternate`: each step trains one task, in random order, each as often as its epoch has steps. "
        "Batch sizes of 2 / 32 / 2 make the epochs of the paper's three tasks about equally long "
        "(4272, 4423 and 3020 steps): then `longest` and `shortest` nearly agree, and no task is seen far more "
        "often than another. With 16 / 16 / 16 similarity is seen 23 times for each pass over paraphrase.",
    )
    surgery: Surgery = Field(
        "none",
        description="how the tasks' gradients on the shared encoder are changed before they are summed; "
        "only with `training: joint`",
    )
    reshuffle: Switch = Field(
        True, description="a new order in each epoch; false repeats the first epoch's order"
    )
    batch_size: BatchSize = Field(
        BatchSize(), description="items (sentences or pairs) of each task in one optimizer step"
    )

    # How long, how fast
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        3, description="passes over the data, of each part"
    )
    max_steps: Steps | None = Field(
        None, description="optimizer steps of each part; when given, `epochs` is not used"
    )
    lr: LearningRates = LearningRates()
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="how the learning rate falls to 0 after the warm-up"
    )
    warmup: Share = Field(
        0.1, description="share of the steps in which the learning rate rises from 0 to its peak"
    )
    l2: NonNegative = Field(
        0.0, description="weight decay of matrices; biases and normalisation weights are not decayed"
    )
    l2_kind: Literal["decoupled", "coupled"] = Field(
        "decoupled",
        description="AdamW (a weight shrinks by learning rate x l2 x itself), or l2 x weight added to the "
        "gradient before Adam",
    )
    clip: NonNegative = Field(1.0, description="largest norm of a step's whole gradient; 0 means no clipping")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="bf16: the encoder's matrix products in bfloat16; weights, heads and optimizer in fp32",
    )

    # What is evaluated and kept
    eval_every: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] = Field(
        0,
        description="steps between evaluations on dev; 0 means after each epoch. The last step is always evaluated",
    )
    select: Literal["last", "best"] = Field(
        "last",
        description="which weights and predictions are reported: those of the last step, or of the evaluation with "
        "the best mean metric (the last one is then reported as well, as `...@last`)",
    )
    keep: Literal["auto", "model", "none"] = Field(
        "auto",
        description="whether to save the trained model in the trial's folder. `auto` saves models of at most 128 MiB "
        "(tiny, MiniLM); the 936 BERT-base parts of full_grid would take 400 GB",
    )

    @model_validator(mode="before")
    @classmethod
    def _tasks_have_their_own_keys(cls, settings: Any) -> Any:
        if isinstance(settings, Mapping) and isinstance(settings.get("tasks"), Mapping):
            moved = {key: _IN_A_TASK.get(key, "head") for key in ("data", "batch_size", *HEADS.values())}
            faults = {
                key: f"stands in each task where tasks are declared; write tasks: {{name: {{{inside}: ...}}}}"
                for key, inside in moved.items()
                if key in settings
            }
            if faults:
                raise faults_at(faults)
        return settings

    @field_validator("tasks", mode="wrap")
    @classmethod
    def _listed_or_declared(cls, tasks: object, _: object) -> tuple[str, ...] | dict[str, DeclaredTask]:
        # A union would put the name of its member into the place of each fault.
        if isinstance(tasks, Mapping):
            return _declared(_DECLARED.validate_python(tasks))
        return _listed(_LISTED.validate_python(tasks))

    @field_validator("surgery")
    @classmethod
    def _surgery_needs_several_gradients(cls, surgery: Surgery, info: ValidationInfo) -> Surgery:
        training, tasks = info.data.get("training", "joint"), info.data.get("tasks", PAPER)
        faults = {
            f"needs training: joint, found training: {training}": training != "joint",
            "works on the encoder's gradients; freeze_encoder: true leaves none": info.data.get(
                "freeze_encoder"
            ),
            "needs all tasks in each step; mix: alternate trains one at a time": info.data.get("mix")
            == "alternate",
            f"needs at least two tasks, found {', '.join(tasks)}": len(tasks) < 2,
        }
        for fault, applies in faults.items():
            if applies and surgery != "none":
                raise ValueError(f"surgery: {surgery} {fault}")
        return surgery

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        siamese = [
            task.name
            for task in self.trained
            if self.head_of(task) == "siamese" and task.loss == "squared_error"
        ]
        alone = self.training != "joint" or len(siamese) == len(self.tasks)
        if self.freeze_encoder and self.dense_size == 0 and siamese and alone:
            raise ValueError(
                f"dense_size: 0 leaves a siamese {siamese[0]} head nothing to train beside a frozen encoder; "
                "use 1 or more"
            )
        return self

    @property
    def trained(self) -> tuple[Task, ...]:
        """The tasks to train."""
        if isinstance(self.tasks, dict):
            return tuple(declared.task(name) for name, declared in self.tasks.items())
        return tuple(TASKS[name] for name in self.tasks)

    @property
    def sources(self) -> dict[Task, Source]:
        """Where the examples of each task to train come from."""
        if isinstance(self.tasks, dict):
            return {task: self.tasks[task.name].source for task in self.trained}
        return {task: getattr(self.data, task.name) for task in self.trained}

    @property
    def batch_sizes(self) -> dict[str, int]:
        """Items of each task to train in one optimizer step."""
        if isinstance(self.tasks, dict):
            return {name: declared.batch_size for name, declared in self.tasks.items()}
        return {name: getattr(self.batch_size, name) for name in self.tasks}

    def head_of(self, task: Task) -> str:
        """Return the name of the head that `task` gets."""
        if isinstance(self.tasks, dict) or task.name not in HEADS:
            return next(iter(task.heads))
        chosen: str = getattr(self, HEADS[task.name])
        return chosen

    def limited(self, limit: Callable[[Source], Mapping[str, int]]) -> Self:
        """Return the same settings with other limits on the rows of the tasks to train."""
        limits = {task.name: {"limit": dict(limit(source))} for task, source in self.sources.items()}
        if isinstance(self.tasks, dict):
            return self.model_copy(update={"tasks": _changed(self.tasks, limits)})
        sources = {
            task.name: source.model_copy(update=limits[task.name]) for task, source in self.sources.items()
        }
        return self.model_copy(update={"data": Data(**sources)})

    @property
    def encoder_lr(self) -> float:
        """Peak learning rate of the encoder."""
        if self.lr.encoder is not None:
            return self.lr.encoder
        return 1e-3 if self.encoder == "tiny" else 2e-5


_IN_A_TASK = {"data": "files", "batch_size": "batch_size"}  # what a key of all tasks is called in one
_LISTED = TypeAdapter(tuple[str, ...])
_DECLARED = TypeAdapter(dict[str, DeclaredTask])
_TASK_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED = ("all", "encoder", "mean")  # names of a part, of weights and of a metric


def _listed(tasks: tuple[str, ...]) -> tuple[str, ...]:
    for task in tasks:
        if task not in TASKS:
            raise ValueError(f"{task!r} is not one of {', '.join(TASKS)}")
    if not tasks:
        raise ValueError(f"none are listed; give one or more of {', '.join(TASKS)}")
    if len(set(tasks)) < len(tasks):
        raise ValueError(f"a task is named twice: {', '.join(tasks)}")
    return tuple(task for task in TASKS if task in tasks)


def _declared(tasks: dict[str, DeclaredTask]) -> dict[str, DeclaredTask]:
    for name in tasks:
        if not _TASK_NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(
                f"{shown(name)} cannot be the name of a task; start with a letter, go on with letters, digits, _ and -, "
                f"at most 64, and not {', '.join(_RESERVED)}"
            )
    if not tasks:
        raise ValueError("none are declared; give one or more, {name: {kind: ...}}")
    if not any(task.weight for task in tasks.values()):
        raise ValueError("every weight is 0; give at least one task a weight, or leave them out")
    # Settings are compared without regard to the order of keys, so the order in which tasks are trained must not depend on it.
    listed = list(TASKS)
    rank = {name: listed.index(name) if name in TASKS else len(listed) for name in tasks}
    return dict(sorted(tasks.items(), key=lambda item: (rank[item[0]], item[0])))


def _changed(
    tasks: Mapping[str, DeclaredTask], updates: Mapping[str, Mapping[str, Any]]
) -> dict[str, DeclaredTask]:
    return {name: task.model_copy(update=updates[name]) for name, task in tasks.items()}


def parts(settings: Settings) -> dict[str, Settings]:
    """Return the independent parts: one per task with `training: separate`, otherwise one, "all".

    In a part, the settings of other tasks are reset to their defaults, so that trials that differ only there share it.
    """
    if settings.training != "separate":
        return {"all": settings}
    return {name: _only(settings, name) for name in settings.tasks}


def _only(settings: Settings, task: str) -> Settings:
    default = Settings()
    if isinstance(settings.tasks, dict):
        # Alone it has no mean to be weighted in.
        alone = settings.tasks[task].model_copy(update={"weight": 1.0})
        return settings.model_copy(update={"tasks": {task: alone}, "mix": default.mix})
    return settings.model_copy(
        update={
            "tasks": (task,),
            "data": Data(**{task: getattr(settings.data, task)}),
            "batch_size": BatchSize(**{task: getattr(settings.batch_size, task)}),
            "mix": default.mix,
            **{name: getattr(settings if of == task else default, name) for of, name in HEADS.items()},
        }
    )


def combine(settings: Settings, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return a trial's metrics: those of its parts, and the mean over its tasks if all have a metric."""
    together = {name: value for part in metrics.values() for name, value in part.items()}
    for suffix in ("", "@last"):
        together |= mean_of(together, settings.trained, "dev", suffix)
    return together


def smoke(settings: Settings) -> Settings:
    """Return the same trial shrunk to a few steps of the tiny encoder on the built-in corpus."""
    few = Source(limit={"train": 48, "dev": 24, "test": 24})
    if isinstance(settings.tasks, dict):
        updates = {
            name: {**dict(few), "batch_size": min(4, task.batch_size)}
            for name, task in settings.tasks.items()
        }
        tasks: dict[str, Any] = {"tasks": _changed(settings.tasks, updates)}
    else:
        sizes = {task: min(4, size) for task, size in settings.batch_size}
        tasks = {"data": Data(**dict.fromkeys(TASKS, few)), "batch_size": BatchSize(**sizes)}
    return settings.model_copy(
        update={**tasks, "encoder": "tiny", "max_length": 32, "max_steps": 3, "eval_every": 0}
    )
