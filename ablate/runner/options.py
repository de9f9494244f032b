"""The options of `ablate run`, for the command line and for Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What a user may set besides the study file."""

    home: Path | None = None
    storage: str | None = None
    workers: int | None = 1  # None: as many as fit
    engine: str = "local"
    address: str | None = None
    only: Sequence[str] = ()
    overrides: Sequence[str] = ()
    limit: int | None = None
    smoke: bool = False
    max_hours: float | None = None
    max_usd: float | None = None
    extend: bool = False
    retry_failed: bool = False
    code: str | None = None  # if the trainer's code changed: keep or rerun
