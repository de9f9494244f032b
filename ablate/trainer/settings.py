"""Everything a study may set for this trainer, with defaults and units. Pure pydantic: torch is not loaded.

Unknown keys, text in place of numbers, NaN and infinity are refused. If the default is `None`, the description says how the
value is derived.
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
from ablate.trainer.tasks.registry import PAPER, TASKS
from ablate.trainer.tasks.task import ORDERING, Task

Surgery = Literal[
    "none",
    "pcgrad",
    "gradvac",
    "upgrad",
    "dualproj",
    "aligned_mtl",
    "mgda",
    "imtl_g",
    "fairgrad",
    "nash_mtl",
    "cagrad",
    "config",
    "cr_mogm",
    "random",
    "krum",
    "pcd",
    "graddrop",
    "trimmed_mean",
    "excess_mtl",
]

Mix = Literal["longest", "shortest", "alternate", "proportional", "temperature", "annealed"]
ONE_TASK_A_STEP: tuple[Mix, ...] = ("alternate", "proportional", "temperature", "annealed")
DEFAULT_TEMPERATURE = 2.0  # probabilities ~ the square root of the size

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
else:  # made here, with one field for each task: `sentiment`, .. and `paraphrase_head`, ..
    BatchSize = create_model("BatchSize", __base__=Frozen, **dict.fromkeys(TASKS, (Count, 16)))
    Data = create_model("Data", __base__=Frozen, **dict.fromkeys(TASKS, (Source, Source())))
    choices = {name: _head_setting(TASKS[task]) for task, name in HEADS.items()}
    HeadChoices = create_model("HeadChoices", __base__=Frozen, **choices)


class LearningRates(Frozen):
    """Peak learning rates of Adam."""

    encoder: Rate | None = Field(
        None,
        description="default: 2e-5; 5e-4 with `lora` (Hu et al. 2021); 1e-3 for `tiny`, which starts from scratch",
    )
    heads: Rate = 1e-3
    layer_decay: Rate = Field(
        1.0,
        description="layer-wise decay (ELECTRA: 0.8 for base, 0.9 for large): each layer of the encoder has this share of the "
        "rate of the layer above it, and the embeddings this share of the first layer's rate; the last layer has the rate "
        "`encoder`; 1 means no decay",
    )


class LoraSettings(Frozen):
    """LoRA: low-rank updates of some of the encoder's matrices are trained instead of its weights."""

    rank: Annotated[int, Field(strict=True, ge=0, le=65_536)] = Field(
        0, description="rank of the updates (8 is usual); 0 means that all weights of the encoder are trained"
    )
    alpha: Annotated[float, Field(strict=True, gt=0)] = Field(
        8.0, description="an update is multiplied by alpha / rank"
    )
    matrices: Literal["query_value", "all"] = Field(
        "query_value",
        description="which matrices: attention's queries and values, or all dense layers in the encoder's layers",
    )


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
        "a mapping sets data, batch sizes and heads in each task",
    )
    data: Data = Field(
        Data(), description="where each task's examples come from; a task left out uses the built-in corpus"
    )
    max_length: Annotated[int, Field(strict=True, ge=4, le=8192)] = Field(
        128,
        description="the maximum number of tokens of a sentence (of a pair, for the head `cross`), with [CLS] and [SEP]; longer "
        "ones are cut off",
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
        0.1,
        description="dropout probability in the encoder (hidden, attention) and before each layer of the heads",
    )
    r_drop: NonNegative = Field(
        0.0,
        description="R-Drop: each item is computed twice, with different dropout, and this factor times the distance of the two "
        "outputs is added to the loss (symmetric KL divergence of classes, squared difference of numbers); 0 means no R-Drop",
    )
    freeze_encoder: Switch = Field(False, description="train the heads only, on embeddings computed once")

    lora: LoraSettings = LoraSettings()

    # How the tasks are combined
    training: Literal["separate", "sequential", "joint"] = Field(
        "joint",
        description="separate: one model per task; sequential: one model, task after task; joint: one model, all tasks in "
        "each step",
    )
    mix: Mix = Field(
        "longest",
        description="how joint training combines tasks of different sizes. A task's epoch is size / batch size steps. "
        "`longest`: an epoch ends when every task has been seen completely; shorter tasks start over meanwhile; "
        "`shortest`: it ends with the shortest task; longer tasks continue in the next epoch; "
        "`alternate`: each step trains one task, in random order, each as often as its epoch has steps; "
        "`proportional`, `temperature`, `annealed`: each step trains one task, drawn with a probability ~ n, n^(1/T), and n^a "
        "with a falling from 1 to 0.2 over the epochs (Stickland and Murray 2019), n being the steps of its epoch. "
        "On the data of Stanford's course CS 224N, batch sizes of 2 / 32 / 2 (sentiment / paraphrase / similarity) make the "
        "epochs about equally long (4272, 4423 and 3020 steps): then `longest` and `shortest` nearly agree, and no task is "
        "seen far more often than another. With 16 / 16 / 16 similarity is seen 23 times for each pass over paraphrase.",
    )
    mix_temperature: Annotated[float, Field(strict=True, ge=1)] | None = Field(
        None,
        description="T of `mix: temperature`; default: 2. 1 is `proportional`; a high T draws all tasks equally often",
    )
    surgery: Surgery = Field(
        "none",
        description="how the tasks' gradients on the shared encoder are changed before they are summed; "
        "only with `training: joint`",
    )
    main_task: str | None = Field(
        None, description="the task that `surgery: pcd` puts first; there is no default"
    )
    balancing: Literal["none", "uncertainty", "dwa", "famo"] = Field(
        "none",
        description="how the weights of the tasks' losses change during training: by learnt log-variances (Kendall et al. "
        "2018), by how fast the losses fell over the last epochs (Liu et al. 2019), or so that all fall at the same rate (Liu et "
        "al. 2023, one more forward pass a step); only with `training: joint`. Fixed weights: `loss_weight` of a task",
    )
    reshuffle: Switch = Field(
        True, description="a new order in each epoch; false repeats the first epoch's order"
    )
    batch_size: BatchSize = Field(
        BatchSize(), description="items (sentences or pairs) of each task in one optimizer step"
    )
    micro_batch: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = Field(
        0,
        description="the largest number of items (of one task) that the encoder processes at a time (with `r_drop`, each counts "
        "twice); a step with more items in total is split: less memory for the same batch (gradient accumulation), at the price "
        "of a second forward pass; 0 means all at once. Heads and losses see the whole batch",
    )

    # How long, how fast
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        3, description="passes over the data in the training of each part"
    )
    max_steps: Steps | None = Field(
        None,
        description="optimizer steps of each part (with `training: sequential`, of each task's stage); overrides `epochs`",
    )
    lr: LearningRates = LearningRates()
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear",
        description="the learning rate after the warm-up: constant, or falling to 0 along a line or a cosine",
    )
    warmup: Share = Field(
        0.1, description="share of the steps in which the learning rate rises from 0 to its peak"
    )
    l2: NonNegative = Field(
        0.0, description="weight decay of matrices; biases and normalisation weights are not decayed"
    )
    l2_kind: Literal["decoupled", "coupled"] = Field(
        "decoupled",
        description="decoupled: AdamW (a weight shrinks by learning rate x l2 x itself); coupled: l2 x weight is added to the "
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
    patience: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = Field(
        0,
        description="early stopping: training ends after this many evaluations in a row without a better mean metric (of the "
        "stage's tasks, with `training: sequential`); 0 means never. `epochs` or `max_steps` then set the longest that training "
        "can take, and the learning-rate schedule covers that full length",
    )
    select: Literal["last", "best"] = Field(
        "last",
        description="which weights and predictions to report: those of the last step, or of the evaluation with "
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
                key: f"is set in each task when tasks are declared; write tasks: {{name: {{{inside}: ...}}}}"
                for key, inside in moved.items()
                if key in settings
            }
            if faults:
                raise faults_at(faults)
        return settings

    @field_validator("tasks", mode="wrap")
    @classmethod
    def _listed_or_declared(cls, tasks: object, _: object) -> tuple[str, ...] | dict[str, DeclaredTask]:
        # Not a union: pydantic would add the member's name to the place of each fault.
        if isinstance(tasks, Mapping):
            return _declared(_DECLARED.validate_python(tasks))
        return _listed(_LISTED.validate_python(tasks))

    @field_validator("r_drop")
    @classmethod
    def _r_drop_needs_dropout(cls, r_drop: float, info: ValidationInfo) -> float:
        if r_drop and info.data.get("dropout") == 0:
            raise ValueError(
                "compares two passes with different dropout, which are the same with dropout: 0; use a dropout above 0"
            )
        return r_drop

    @field_validator("lora")
    @classmethod
    def _lora_needs_an_encoder_to_train(cls, lora: LoraSettings, info: ValidationInfo) -> LoraSettings:
        if lora.rank and info.data.get("freeze_encoder"):
            raise ValueError("trains the encoder, which freeze_encoder: true forbids; use one of the two")
        return lora

    @field_validator("mix_temperature")
    @classmethod
    def _temperature_of_the_mix(cls, temperature: float | None, info: ValidationInfo) -> float | None:
        mix = info.data.get("mix", "temperature")
        if temperature is not None and mix != "temperature":
            raise ValueError(f"only mix: temperature uses it, found mix: {mix}; leave mix_temperature out")
        # Writing a default down must not change the hash of a cell.
        return None if temperature == DEFAULT_TEMPERATURE else temperature

    @field_validator("surgery", "balancing")
    @classmethod
    def _several_tasks_in_each_step(cls, method: str, info: ValidationInfo) -> str:
        training, tasks = info.data.get("training", "joint"), info.data.get("tasks", PAPER)
        faults = {
            f"needs training: joint, found training: {training}": training != "joint",
            "works on the encoder that the tasks share; freeze_encoder: true leaves none to train": info.data.get(
                "freeze_encoder"
            ),
            f"needs all tasks in each step; mix: {info.data.get('mix')} trains one at a time": info.data.get(
                "mix"
            )
            in ONE_TASK_A_STEP,
            f"needs at least two tasks, found {', '.join(tasks)}": len(tasks) < 2,
            f"compares gradients with each other, so it needs at least three tasks, found {', '.join(tasks)}": method
            in ("krum", "trimmed_mean")
            and len(tasks) < 3,
        }
        for fault, applies in faults.items():
            if applies and method != "none":
                raise ValueError(f"{info.field_name}: {method} {fault}")
        return method

    @field_validator("main_task")
    @classmethod
    def _a_task_to_put_first(cls, main: str | None, info: ValidationInfo) -> str | None:
        surgery, tasks = info.data.get("surgery", "pcd"), info.data.get("tasks", PAPER)
        if main is not None and surgery != "pcd":
            raise ValueError(f"only surgery: pcd uses it, found surgery: {surgery}; leave main_task out")
        if main is not None and main not in tasks:
            raise ValueError(f"{shown(main)} is not one of the tasks to train: {', '.join(tasks)}")
        return main

    @field_validator("balancing")
    @classmethod
    def _one_source_of_weights(cls, balancing: str, info: ValidationInfo) -> str:
        tasks, surgery = info.data.get("tasks"), info.data.get("surgery", "none")
        declared = tasks if isinstance(tasks, dict) else {}
        weighted = [name for name, task in declared.items() if task.loss_weight != 1]
        if balancing != "none" and weighted:
            raise ValueError(
                f"{balancing} sets the weights of the losses; leave out loss_weight of {', '.join(weighted)}"
            )
        if balancing == "famo" and surgery != "none":
            raise ValueError(
                f"famo already chooses the direction of the step, found surgery: {surgery}; use one of them"
            )
        zero = [name for name, task in declared.items() if task.loss in ORDERING]
        if balancing == "famo" and zero:
            raise ValueError(
                f"famo takes the logarithm of each loss, and loss: {declared[zero[0]].loss} of {zero[0]} is 0 in some batches; "
                "choose another"
            )
        return balancing

    @model_validator(mode="after")
    def _pcd_needs_a_task_to_put_first(self) -> Self:
        if self.surgery == "pcd" and self.main_task is None:
            raise ValueError(
                f"surgery: pcd puts one task first; set main_task to one of {', '.join(self.tasks)}"
            )
        return self

    @model_validator(mode="after")
    def _dwa_needs_a_third_epoch(self) -> Self:
        if self.balancing == "dwa" and self.max_steps is None and self.epochs < 3:
            raise ValueError(
                f"balancing: dwa weighs the losses from the third epoch on, found epochs: {self.epochs}; train 3 or more"
            )
        return self

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        siamese = [
            task.name for task in self.trained if self.head_of(task) == "siamese" and not task.labels.whole
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
        """Items of each trained task in one optimizer step."""
        if isinstance(self.tasks, dict):
            return {name: declared.batch_size for name, declared in self.tasks.items()}
        return {name: getattr(self.batch_size, name) for name in self.tasks}

    @property
    def loss_weights(self) -> dict[str, float]:
        """The fixed weight of each task's loss in joint training."""
        if isinstance(self.tasks, dict):
            return {name: declared.loss_weight for name, declared in self.tasks.items()}
        return dict.fromkeys(self.tasks, 1.0)

    def head_of(self, task: Task) -> str:
        """Return the name of the head that `task` gets."""
        if isinstance(self.tasks, dict) or task.name not in HEADS:
            return next(iter(task.heads))
        chosen: str = getattr(self, HEADS[task.name])
        return chosen

    def limited(self, limit: Callable[[Source], Mapping[str, int]]) -> Self:
        """Return the same settings with other limits on the rows of the trained tasks."""
        limits = {task.name: {"limit": dict(limit(source))} for task, source in self.sources.items()}
        if isinstance(self.tasks, dict):
            limited = {name: task.model_copy(update=limits[name]) for name, task in self.tasks.items()}
            return self.model_copy(update={"tasks": limited})
        sources = {
            task.name: source.model_copy(update=limits[task.name]) for task, source in self.sources.items()
        }
        return self.model_copy(update={"data": Data(**sources)})

    @property
    def encoder_lr(self) -> float:
        """Peak learning rate of the encoder."""
        if self.lr.encoder is not None:
            return self.lr.encoder
        if self.encoder == "tiny":
            return 1e-3
        return 5e-4 if self.lora.rank else 2e-5


# Key of `settings` -> the same key inside a declared task.
_IN_A_TASK = {"data": "files", "batch_size": "batch_size"}
_LISTED = TypeAdapter(tuple[str, ...])
_DECLARED = TypeAdapter(dict[str, DeclaredTask])
_TASK_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]{0,63}")
_RESERVED = ("all", "encoder", "mean")  # would clash with names of a part, of weights, and of a metric


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
                f"{shown(name)} cannot be the name of a task; use a letter, then letters, digits, _ and -, "
                f"at most 64, and not {', '.join(_RESERVED)}"
            )
    if not tasks:
        raise ValueError("none are declared; give one or more, {name: {kind: ...}}")
    if not any(task.weight for task in tasks.values()):
        raise ValueError("every weight is 0; give at least one task a weight, or leave them out")
    # Settings are equal whatever the order of their keys, so the order in which tasks are trained must not depend on it.
    listed = list(TASKS)
    rank = {name: listed.index(name) if name in TASKS else len(listed) for name in tasks}
    return dict(sorted(tasks.items(), key=lambda item: (rank[item[0]], item[0])))
