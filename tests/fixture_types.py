"""The types of the fixtures that every test may ask for, and of what tests read back."""

import subprocess
from pathlib import Path
from typing import Any, Protocol, TypeVar

# What a JSON document holds is for the test to say.
Json = dict[str, Any]

T = TypeVar("T")


class Ablate(Protocol):
    def __call__(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]: ...


class StartAblate(Protocol):
    def __call__(self, *words: object, **environment: str) -> subprocess.Popen[str]: ...


class RunHere(Protocol):
    def __call__(self, study: Path, home: str = "runs", **options: Any) -> Json: ...


class WalkStudy(Protocol):
    def __call__(
        self,
        *,
        steps: int = 5,
        seconds_per_step: float = 0.0,
        slopes: str = "[1.0, 2.0]",
        seeds: str = "[1, 2]",
        more: str = "",
    ) -> Path: ...


def not_none(value: T | None) -> T:
    """Return a value that the test expects to exist."""
    assert value is not None
    return value
