"""A task as a study file declares it, `tasks: {name: {...}}`: checked, and turned into a `Task` and a `Source`."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ablate.text import listed, shown, suggestion
from ablate.trainer.data.sources import Source
from ablate.trainer.tasks.kinds import KINDS, KindOfTask
from ablate.trainer.tasks.presets import PRESETS, expanded
from ablate.trainer.tasks.task import Labels, Metric, Task

MOST_LABELS = 65_536

Count = Annotated[int, Field(strict=True, ge=1, le=65_536)]


class DeclaredTask(Source):
    """One task of a study: what it asks, its head and metric, and where its examples come from."""

    model_config = ConfigDict(allow_inf_nan=False)

    preset: str | None = Field(
        None,
        description=f"a task whose other keys are known: {', '.join(PRESETS)}; keys beside it override them",
    )
    kind: Literal[*KINDS] = Field(  # type: ignore[valid-type]
        description="what it asks, of a sentence or of a pair of sentences"
    )
    labels: int | tuple[str, ...] | None = Field(
        None,
        validate_default=True,
        description="of classifications and multilabel: how many there are, or their names in the order of their numbers",
    )
    range: tuple[float, float] | None = Field(
        None, validate_default=True, description="of regressions: the lowest and the highest label"
    )
    head: str | None = Field(
        None,
        description="what the dense layer sees. One sentence: sentence. Pairs: concat (default), difference, product, siamese, "
        "cross",
    )
    metric: str | None = Field(
        None,
        description="reported as dev/<task>. Classifications: accuracy (default), macro_f1, mcc; regressions: pearson (default), "
        "spearman, r2; multilabel: macro_f1 (default), accuracy, over all labels of all sentences. The others are reported as "
        "dev/<task>.<metric>",
    )
    batch_size: Count = Field(16, description="items of it in one optimizer step")
    weight: Annotated[float, Field(strict=True, ge=0)] = Field(1.0, description="in dev/mean")

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

    @field_validator("head", "metric")
    @classmethod
    def _choice_of_the_kind(cls, chosen: str | None, info: ValidationInfo) -> str | None:
        kind = _kind(info)
        if kind is None or chosen is None:
            return chosen
        known = list(kind.heads if info.field_name == "head" else kind.metrics)
        if chosen not in known:
            name = info.data["kind"]
            raise ValueError(
                f"a {name} has no {info.field_name} {shown(chosen)}; {suggestion(chosen, known)}"
            )
        # A default that is written down changes nothing, not even the hash of a cell.
        return None if chosen == known[0] else chosen

    def task(self, name: str) -> Task:
        """Return it as the value that the rest of the trainer knows."""
        kind = KINDS[self.kind]
        head: str = self.head or next(iter(kind.heads))
        metric: Metric = self.metric or kind.metrics[0]  # type: ignore[assignment]
        return kind.task(name, self._labels(kind), head, metric, self.weight)

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
    """Return the error of single keys, for a validator of a whole mapping. Each problem says what was found."""
    faults = [
        InitErrorDetails(
            type=PydanticCustomError("refused", "{problem}", {"problem": problem}), loc=(key,), input=None
        )
        for key, problem in problems.items()
    ]
    return ValidationError.from_exception_data("settings", faults)
