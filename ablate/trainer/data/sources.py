"""Where a task's text and labels come from: a hub dataset, local files, or the built-in corpus."""

from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ablate.text import closest, shown
from ablate.trainer.tasks.task import Task

SPLITS = ("train", "dev", "test")
ROLES = ("id", "sentence", "sentence1", "sentence2", "label")

_SPLIT_KEYS: dict[str, Any] = {"propertyNames": {"enum": list(SPLITS)}}


class Source(BaseModel):
    """Where one task's splits come from: `hub`, or `files`, or neither for the built-in corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str | None = Field(
        None, description="a dataset on the Hugging Face hub, or a folder that `datasets` can load"
    )
    config: str | None = Field(None, description="the hub dataset's configuration, such as qqp")
    revision: str | None = Field(None, description="the hub dataset's branch, tag or commit")
    files: str | None = Field(
        None, description="a path that contains {split}: .csv or .tsv, or compressed as .gz or .xz"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        json_schema_extra={"propertyNames": {"enum": list(ROLES)}},
        description="our name of a column -> its name in the source, if they differ",
    )
    splits: dict[str, str] = Field(
        default_factory=dict,
        json_schema_extra=_SPLIT_KEYS,
        description="our name of a split -> its name in the source, if they differ",
    )
    limit: dict[str, PositiveInt] = Field(
        default_factory=dict,
        json_schema_extra=_SPLIT_KEYS,
        description="how many rows of a split to use, from its start; the built-in corpus can generate any number",
    )
    text: Literal["raw", "course"] = Field(
        "raw", description="course: normalised as CS224N's reference loader does"
    )
    blank_labels: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with a row that has no label"
    )
    quotes: Literal["double", "none"] = Field(
        "double",
        description="for `files`: double quotes may enclose a field (double), or are plain text, as in GLUE's own files (none)",
    )

    # pydantic would copy an unhashable default for each Settings.
    def __hash__(self) -> int:
        return hash((self.hub, self.config, self.files))

    @field_validator("columns", "splits", "limit", mode="before")
    @classmethod
    def _known_keys(cls, value: object, info: ValidationInfo) -> object:
        known = ROLES if info.field_name == "columns" else SPLITS
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                near = closest(str(key), known)
                meant = f"; did you mean {shown(near)}?" if near else ""
                raise ValueError(f"{shown(key)} is not one of {', '.join(known)}{meant}")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        if self.hub is not None and self.files is not None:
            raise ValueError("both hub and files are given; keep one of them")
        if self.hub is None and (self.config or self.revision):
            raise ValueError("config and revision need hub, which is missing")
        if self.files is not None and "{split}" not in self.files:
            raise ValueError(
                f"files: {shown(self.files)} has no {{split}} in it; write for example data/name-{{split}}.csv"
            )
        if self.hub is None and self.files is None and (self.columns or self.splits):
            raise ValueError("columns and splits need hub or files; the built-in corpus has neither")
        if self.files is None and self.quotes == "none":
            raise ValueError("quotes: none applies to files, which is missing; leave it out")
        for one, other in combinations(SPLITS, 2):
            # The first part of a hub dataset's slice: train[:10%] are rows of train.
            if clash := [
                (a, b)
                for a, b in product(self.names(one), self.names(other))
                if a == b or a.partition("[")[0] == b or b.partition("[")[0] == a
            ]:
                a, b = clash[0]
                raise ValueError(
                    f"{one} and {other} would be the same rows ({' and '.join(dict.fromkeys((a, b)))}); name each of them under "
                    "splits, and give each its own"
                )
        return self

    @property
    def is_built_in(self) -> bool:
        """Whether its examples are the built-in corpus's."""
        return self.hub is None and self.files is None

    def names(self, split: str) -> tuple[str, ...]:
        """Return the names a split may have in the source; the first one that exists is used."""
        if split in self.splits:
            return (self.splits[split],)
        return ("dev", "validation") if split == "dev" else (split,)

    def file_of(self, split: str) -> Path:
        """Return the file of a split: the first that exists of the names it may have."""
        assert self.files is not None
        paths = [Path(self.files.replace("{split}", name)).expanduser() for name in self.names(split)]
        return next((path for path in paths if path.exists()), paths[0])


Sources = Mapping[Task, Source]
