"""A task as a study file declares it, `tasks: {name: {...}}`: checked, and turned into a `Task` and a `Source`."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ablate.text import listed, shown, suggestion
from ablate.trainer.data.sources import Source
from ablate.trainer.tasks.declared_kinds import KINDS, PAIR_HEADS, KindOfTask
from ablate.trainer.tasks.declared_presets import PRESETS, expanded
from ablate.trainer.tasks.task import ORDERING, Labels, LossOptions, Task

MOST_LABELS = 65_536

Count = Annotated[int, Field(strict=True, ge=1, le=65_536)]


def _metrics_of_kinds() -> str:
    """Return the metrics of each kind of task in words."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, kind in KINDS.items():
        kinds.setdefault(kind.metrics, []).append(name)
    return "; ".join(
        f"{' and '.join(names)}: {first} (default), {', '.join(others)}"
        for (first, *others), names in kinds.items()
    )


class DeclaredTask(Source):
    """One task of a study: what it predicts, its head and metric, and where its examples come from."""

    model_config = ConfigDict(allow_inf_nan=False)

    preset: str | None = Field(
        None,
        description=f"the name of a well-known task, which sets the other keys: {', '.join(PRESETS)}; other keys override them",
    )
    kind: Literal[*KINDS] = Field(  # type: ignore[valid-type]
        description="what to predict, and whether from one sentence or a pair"
    )
    labels: int | tuple[str, ...] | None = Field(
        None,
        validate_default=True,
        description="for classifications and multilabel: how many there are, or their names in the order of their numbers",
    )
    range: tuple[float, float] | None = Field(
        None, validate_default=True, description="for regressions: the lowest and the highest label"
    )
    head: str | None = Field(
        None,
        description=f"what the dense layer sees. One sentence: sentence. Pairs: {', '.join(PAIR_HEADS)}; concat if left out",
    )
    metric: str | None = Field(
        None,
        description=f"reported as dev/<task>. By kind of task: {_metrics_of_kinds()}. The others are reported as "
        "dev/<task>.<metric>. For multilabel, accuracy is over all labels of all sentences, macro_f1 the mean over the labels",
    )
    loss: str | None = Field(
        None,
        description="what is minimised. Classifications and multilabel: cross_entropy; regressions: mse (default), and for "
        "pairs with head: siamese also cosine (mse between the cosine and the label, which is mapped to 0 to 1), cosent (the "
        "order of the cosines) and mnrl (multiple negatives ranking: each positive pair against all others of the batch). After "
        "cosent and mnrl, which fit an order only, predictions are the cosine mapped to the range",
    )
    scale: Annotated[float, Field(strict=True, gt=0)] | None = Field(
        None, description="for cosent and mnrl: the factor of the cosine, 1 / temperature; default: 20"
    )
    positive_from: Annotated[float, Field(strict=True, ge=0, le=1)] | None = Field(
        None,
        description="for mnrl: pairs whose label lies at least this share of the way through the range are positives; "
        "default: 0.8",
    )
    label_smoothing: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.0,
        description="for classifications and multilabel: share of the target that is spread over all classes",
    )
    class_weights: Literal["balanced"] | tuple[float, ...] | None = Field(
        None,
        description="for classifications: how much an item of each class counts in the loss, one number per class, or balanced: "
        "n / (classes x count of the class) in the training data",
    )
    loss_weight: Annotated[float, Field(strict=True, gt=0)] = Field(
        1.0, description="factor of the task's loss in joint training with other tasks"
    )
    batch_size: Count = Field(16, description="items of the task in one optimizer step")
    weight: Annotated[float, Field(strict=True, ge=0)] = Field(1.0, description="its weight in dev/mean")

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, task: Any) -> Any:
        if isinstance(task, DeclaredTask):
            return task
        if not isinstance(task, Mapping):
            raise ValueError(
                f"found {shown(task)}; declare a task by a mapping, {{kind: ...}} or {{preset: ...}}"
            )
        preset = task.get("preset")
        if preset is None:
            return task
        if not isinstance(preset, str) or preset not in PRESETS:
            unknown = f"there is no preset {shown(preset)}; {suggestion(str(preset), PRESETS)}"
            raise faults_at({"preset": unknown})
        return expanded(task)

    @field_validator("kind", mode="before")
    @classmethod
    def _known_kind(cls, kind: object) -> object:
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"there is no kind {shown(kind)}; {suggestion(str(kind), KINDS)}")
        return kind

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_of_the_kind(cls, labels: object, info: ValidationInfo) -> object:
        kind = _kind(info)
        if kind is None or (labels is None and kind.numbers):
            return labels
        if kind.numbers:
            raise ValueError(
                f"a {info.data['kind']} has numbers; give their range: [lowest, highest] instead"
            )
        if isinstance(labels, list | tuple):
            return _names(labels, kind)
        if not isinstance(labels, int) or isinstance(labels, bool) or not 2 <= labels <= MOST_LABELS:
            raise ValueError(
                f"{_found(labels)}; give the number of labels, 2 to {MOST_LABELS}, or a list of their names in order"
            )
        return labels

    @field_validator("range", mode="before")
    @classmethod
    def _range_of_the_kind(cls, value: object, info: ValidationInfo) -> object:
        kind = _kind(info)
        if kind is None or (value is None and not kind.numbers):
            return value
        if not kind.numbers:
            raise ValueError(f"a {info.data['kind']} has classes; give their labels instead")
        numbers = list(value) if isinstance(value, list | tuple) else []
        if not all(type(number) in (int, float) for number in numbers) or len(numbers) != 2:
            raise ValueError(f"{_found(value)}; give [lowest label, highest label]")
        if not numbers[0] < numbers[1]:
            raise ValueError(f"{_found(value)}; give the lowest label first, then a higher one")
        return value

    @field_validator("head", "metric", "loss")
    @classmethod
    def _choice_of_the_kind(cls, chosen: str | None, info: ValidationInfo) -> str | None:
        kind = _kind(info)
        if kind is None or chosen is None:
            return chosen
        known = list({"head": kind.heads, "metric": kind.metrics, "loss": kind.losses}[info.field_name or ""])
        if chosen not in known:
            name = info.data["kind"]
            raise ValueError(
                f"a {name} has no {info.field_name} {shown(chosen)}; {suggestion(chosen, known)}"
            )
        # Writing a default down must not change the hash of a cell.
        return None if chosen == known[0] else chosen

    @field_validator("loss")
    @classmethod
    def _head_and_metric_of_the_loss(cls, loss: str | None, info: ValidationInfo) -> str | None:
        # All losses except the defaults (None here) are losses of cosines.
        if loss is None or "head" not in info.data:
            return loss
        if info.data["head"] != "siamese":
            head = info.data["head"] or "concat"
            raise ValueError(f"{loss} works on cosines, found head: {head}; write head: siamese")
        if loss in ORDERING and info.data.get("metric") == "r2":
            raise ValueError(
                f"{loss} learns only the order of the pairs, but metric: r2 scores their values; use spearman"
            )
        return loss

    @field_validator("batch_size")
    @classmethod
    def _pairs_to_compare(cls, size: int, info: ValidationInfo) -> int:
        if size == 1 and info.data.get("loss") in ORDERING:
            raise ValueError(
                f"loss: {info.data['loss']} compares the pairs of a batch, found batch_size: 1; use 2 or more"
            )
        return size

    @field_validator("scale", "positive_from")
    @classmethod
    def _option_of_the_loss(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None or "loss" not in info.data:
            return value
        name = info.field_name or ""
        losses = ORDERING if name == "scale" else ("mnrl",)
        if info.data["loss"] not in losses:
            raise ValueError(
                f"it is only used by loss: {' or '.join(losses)}; leave {name} out, or choose such a loss"
            )
        return None if value == getattr(LossOptions, name) else value

    @field_validator("label_smoothing")
    @classmethod
    def _smoothing_of_classes(cls, smoothing: float, info: ValidationInfo) -> float:
        kind = _kind(info)
        if smoothing and kind is not None and kind.numbers:
            raise ValueError(
                f"a {info.data['kind']} has numbers, and only classes can be smoothed; leave it out"
            )
        return smoothing

    @field_validator("class_weights", mode="before")
    @classmethod
    def _weights_of_the_classes(cls, weights: object, info: ValidationInfo) -> object:
        kind = _kind(info)
        if kind is None or weights is None:
            return weights
        if kind.numbers or kind.several:
            raise ValueError(f"a {info.data['kind']} does not have one class per item; leave it out")
        labels = info.data.get("labels")
        if labels is None:
            return weights
        count = labels if isinstance(labels, int) else len(labels)
        numbers = list(weights) if isinstance(weights, list | tuple) else []
        positive = all(type(number) in (int, float) and number > 0 for number in numbers)
        if weights != "balanced" and not (positive and len(numbers) == count):
            raise ValueError(
                f"{_found(weights)}; write balanced, or a list of {count} positive numbers, one per label"
            )
        return weights

    def task(self, name: str) -> Task:
        """Return the declared task as a `Task`, which the rest of the trainer uses."""
        kind = KINDS[self.kind]
        head: str = self.head or next(iter(kind.heads))
        metric = self.metric or kind.metrics[0]
        loss = self.loss or next(iter(kind.losses))
        return kind.task(name, self._labels(kind), head, metric, loss, self._loss_options, self.weight)

    @property
    def _loss_options(self) -> LossOptions:
        names = [field.name for field in fields(LossOptions)]
        chosen = {name: getattr(self, name) for name in names}
        return LossOptions(**{name: value for name, value in chosen.items() if value is not None})

    def _labels(self, kind: KindOfTask) -> Labels:
        if self.range is not None:
            return kind.labels(*self.range, names=())
        names = self.labels if isinstance(self.labels, tuple) else ()
        count = len(names) if names else self.labels
        assert isinstance(count, int), "labels are required where there is no range"
        return kind.labels(0, count - 1, names)

    @property
    def source(self) -> Source:
        """Where its examples come from."""
        return Source.model_construct(**{key: getattr(self, key) for key in Source.model_fields})


def _kind(info: ValidationInfo) -> KindOfTask | None:
    return KINDS.get(info.data.get("kind", ""))


def _found(value: object) -> str:
    return "missing" if value is None else f"found {shown(value)}"


def _names(names: Collection[Any], kind: KindOfTask) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{shown(name)} is not text; put the names of labels in quotes")
        if not name.strip() or name != name.strip():
            raise ValueError(
                f"{shown(name)} is blank or has spaces around it; labels are compared without them"
            )
        if kind.several and "|" in name:
            raise ValueError(f"{shown(name)} contains |, which separates labels; choose another name")
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError(f"found {listed(map(shown, names), 12) or 'none'}; give two or more different names")
    return tuple(names)


def faults_at(problems: Mapping[str, str]) -> ValidationError:
    """Return an error at single keys, for a validator of a whole mapping. Each problem says what was found."""
    faults = [
        InitErrorDetails(
            type=PydanticCustomError("refused", "{problem}", {"problem": problem}), loc=(key,), input=None
        )
        for key, problem in problems.items()
    ]
    return ValidationError.from_exception_data("settings", faults)
