"""Everything a study may set for this trainer, with defaults and units. Pure pydantic: torch is not loaded.

Unknown keys, text for numbers, NaN and infinity are refused. `None` as a default means "derived", as
described."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ablate.trainer.data.sources import TASKS, Source

Surgery = Literal[
    "none", "pcgrad", "gradvac", "upgrad", "dualproj", "aligned_mtl", "mgda", "imtl_g", "fairgrad"
]

Count = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Steps = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Rate = Annotated[float, Field(strict=True, gt=0, le=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Switch = Annotated[bool, Field(strict=True)]


class Frozen(BaseModel):
    """A value: compared by content, never changed, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BatchSize(Frozen):
    """Items (sentences or pairs) of each task in one optimizer step."""

    sentiment: Count = 16
    paraphrase: Count = 16
    similarity: Count = 16


class LearningRates(Frozen):
    """Peak learning rates of Adam."""

    encoder: Rate | None = Field(
        None, description="default: 2e-5; 1e-3 for `tiny`, which starts from nothing"
    )
    heads: Rate = 1e-3


class Data(Frozen):
    """Where each task's examples come from; a task left out uses the built-in corpus."""

    sentiment: Source = Source()
    paraphrase: Source = Source()
    similarity: Source = Source()


class Settings(Frozen):
    """What a study may set for `ablate.trainer`."""

    # What is trained, on what
    encoder: str = Field(
        "tiny",
        min_length=1,
        description="`tiny` (2 layers, hidden 128, from scratch), a folder, or a hub name",
    )
    tasks: tuple[str, ...] = Field(
        TASKS, min_length=1, description="the tasks to train; kept in the order of the default"
    )
    data: Data = Data()
    max_length: Annotated[int, Field(strict=True, ge=4, le=8192)] = Field(
        128, description="tokens of a sentence, with [CLS] and [SEP]; the rest is cut"
    )

    # The model
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="a sentence's embedding: its first token, or the mean of all its tokens"
    )
    dense_size: Annotated[int, Field(strict=True, ge=0, le=65_536)] = Field(
        256, description="width of the dense layer of each head; 0 means none"
    )
    paraphrase_head: Literal["concat", "difference"] = Field(
        "concat", description="[u, v] or [u, v, |u - v|] into the dense layer"
    )
    similarity_head: Literal["concat", "siamese"] = Field(
        "concat",
        description="regression on [u, v], or 5 x the cosine of u and v after one shared dense layer",
    )
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.1, description="in the encoder (hidden and attention) and before each layer of the heads"
    )
    freeze_encoder: Switch = Field(False, description="train the heads only, on embeddings computed once")

    # How the tasks meet
    training: Literal["separate", "sequential", "joint"] = Field(
        "joint",
        description="one model per task; one model, task after task; one model, all tasks at each step",
    )
    mix: Literal["longest", "shortest", "alternate"] = Field(
        "longest",
        description="joint training of tasks of different size. A task's epoch is size / batch size steps. "
        "`longest`: it ends when every task has been seen whole, shorter ones start over meanwhile; "
        "`shortest`: it ends with the shortest task, longer ones go on in the next epoch where they stopped; "
        "`alternate`: each step trains one task, each as often as its size asks, in random order. "
        "Batch sizes of 2 / 32 / 2 make the epochs of the paper's three tasks about equally long "
        "(4272, 4423 and 3020 steps): then `longest` and `shortest` nearly agree, and no task is seen many "
        "times over or hardly at all. With 16 / 16 / 16 similarity is seen 23 times for each pass over paraphrase.",
    )
    surgery: Surgery = Field(
        "none",
        description="what is done to the tasks' gradients on the shared encoder before they are summed; "
        "only with `training: joint`",
    )
    reshuffle: Switch = Field(
        True, description="a new order in each epoch; false repeats the first epoch's order"
    )
    batch_size: BatchSize = BatchSize()

    # How long, how fast
    epochs: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        3, description="passes over the data, of each part"
    )
    max_steps: Steps | None = Field(
        None, description="optimizer steps of each part; when given it decides alone and `epochs` is not used"
    )
    lr: LearningRates = LearningRates()
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="how the learning rate falls to 0 after the warm-up"
    )
    warmup: Share = Field(
        0.1, description="share of the steps in which the learning rate rises from 0 to its peak"
    )
    l2: NonNegative = Field(
        0.0, description="weight decay of matrices; biases and normalisation are left alone"
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

    # What is looked at and kept
    eval_every: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] = Field(
        0,
        description="steps between evaluations on dev; 0 means after each epoch. The last step always counts",
    )
    select: Literal["last", "best"] = Field(
        "last",
        description="whose weights and predictions count: the last step's, or those of the evaluation with "
        "the best mean metric (the last one is reported beside it)",
    )
    keep: Literal["auto", "model", "none"] = Field(
        "auto",
        description="the trained model in the trial's folder. `auto` keeps it when it takes at most 128 MiB "
        "(tiny, MiniLM): the 936 BERT-base parts of full_grid would fill 400 GB",
    )

    @field_validator("tasks")
    @classmethod
    def _tasks_in_order(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        for task in tasks:
            if task not in TASKS:
                raise ValueError(f"{task!r} is not one of {', '.join(TASKS)}")
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"a task is named twice: {', '.join(tasks)}")
        return tuple(task for task in TASKS if task in tasks)

    @field_validator("surgery")
    @classmethod
    def _surgery_needs_several_gradients(cls, surgery: Surgery, info: ValidationInfo) -> Surgery:
        if surgery == "none":
            return surgery
        if info.data.get("training", "joint") != "joint":
            raise ValueError(
                f"surgery: {surgery} needs training: joint, found training: {info.data['training']}"
            )
        if info.data.get("freeze_encoder"):
            raise ValueError(
                f"surgery: {surgery} works on the encoder's gradients; freeze_encoder: true leaves none"
            )
        if info.data.get("mix") == "alternate":
            raise ValueError(
                f"surgery: {surgery} needs all tasks in each step; mix: alternate trains one at a time"
            )
        if len(info.data.get("tasks", TASKS)) < 2:
            raise ValueError(
                f"surgery: {surgery} needs at least two tasks, found {', '.join(info.data['tasks'])}"
            )
        return surgery

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        alone = self.training != "joint" or self.tasks == ("similarity",)
        bare = "similarity" in self.tasks and self.similarity_head == "siamese" and self.dense_size == 0
        if self.freeze_encoder and bare and alone:
            raise ValueError(
                "dense_size: 0 leaves a siamese similarity head nothing to train beside a frozen encoder; 1 or more would do"
            )
        return self

    @property
    def encoder_lr(self) -> float:
        """Peak learning rate of the encoder."""
        if self.lr.encoder is not None:
            return self.lr.encoder
        return 1e-3 if self.encoder == "tiny" else 2e-5


def parts(settings: Settings) -> dict[str, Settings]:
    """Return the independent pieces: one per task with `training: separate`, otherwise one, "all".

    A part holds only what decides it: what belongs to other tasks is back at its default, so that trials
    which differ elsewhere share it.
    """
    if settings.training != "separate":
        return {"all": settings}
    return {task: _only(settings, task) for task in settings.tasks}


def _only(settings: Settings, task: str) -> Settings:
    default = Settings()
    return settings.model_copy(
        update={
            "tasks": (task,),
            "data": Data(**{task: getattr(settings.data, task)}),
            "batch_size": BatchSize(**{task: getattr(settings.batch_size, task)}),
            "mix": default.mix,
            "paraphrase_head": settings.paraphrase_head if task == "paraphrase" else default.paraphrase_head,
            "similarity_head": settings.similarity_head if task == "similarity" else default.similarity_head,
        }
    )


def combine(settings: Settings, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return a trial's metrics: those of its parts, and the mean over the three tasks where all are there."""
    together = {name: value for part in metrics.values() for name, value in part.items()}
    return together | means(together)


def means(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return `<split>/mean` = mean(accuracy, accuracy, (r + 1) / 2) for every split that has all three tasks.

    A suffix is kept: `dev/sentiment@last` and its siblings make `dev/mean@last`.
    """
    groups = {(name.partition("/")[0], name.partition("@")[2]) for name in metrics}
    found = {}
    for split, suffix in sorted(groups):
        at = f"@{suffix}" if suffix else ""
        values = {task: metrics.get(f"{split}/{task}{at}") for task in TASKS}
        if all(value is not None for value in values.values()):
            found[f"{split}/mean{at}"] = mean_metric(
                {task: value for task, value in values.items() if value is not None}
            )
    return found


def mean_metric(by_task: Mapping[str, float]) -> float:
    """Return the mean of accuracies and of Pearson's r brought to 0..1 by (r + 1) / 2."""
    return sum((value + 1) / 2 if task == "similarity" else value for task, value in by_task.items()) / len(
        by_task
    )


def smoke(settings: Settings) -> Settings:
    """Return the same trial shrunk to a few steps of the tiny encoder on the built-in corpus."""
    small = {"sentiment": 4, "paraphrase": 4, "similarity": 4}
    few = Source(limit={"train": 48, "dev": 24, "test": 24})
    return settings.model_copy(
        update={
            "encoder": "tiny",
            "data": Data(sentiment=few, paraphrase=few, similarity=few),
            "max_length": 32,
            "batch_size": BatchSize(
                **{task: min(size, getattr(settings.batch_size, task)) for task, size in small.items()}
            ),
            "max_steps": 3,
            "eval_every": 0,
        }
    )
