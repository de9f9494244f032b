"""From the command line to a validated study: every cell is checked, nothing is written."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.contract import Trainer, load_trainer
from ablate.design.cells import build_design
from ablate.design.model import Design
from ablate.errors import BadInput
from ablate.runner.smoke import smoke_study
from ablate.spec.designs import OneAtATime
from ablate.spec.model import StudySpec
from ablate.spec.reading import read_study
from ablate.store.places import Place, place_of


@dataclass(frozen=True)
class Prepared:
    """A study that was read and validated; nothing has been written."""

    spec: StudySpec
    trainer: Trainer
    design: Design
    place: Place


@contextlib.contextmanager
def naming_link(spec: StudySpec) -> Iterator[None]:
    """If the study file is a link, let faults of its trainer and files say where these are looked for.

    Raises:
        BadInput: the same faults, and where the link leads.
    """
    try:
        yield
    except BadInput as error:
        if spec.path is None or not spec.path.is_symlink():
            raise
        target = spec.path.resolve()
        raise BadInput(
            *error.faults,
            f"{spec.path}: is a link to {target}; the trainer and relative paths are looked for next to the link: name "
            "the target itself, or link what it needs too",
        ) from error


def prepare(
    study: Path | Mapping[str, Any],
    home: Path | None = None,
    storage: str | None = None,
    overrides: Sequence[str] = (),
    smoke: bool = False,
) -> Prepared:
    """Read and validate a study (a file, or a mapping with the same keys) and each of its cells.

    Raises:
        BadInput: the file, the trainer or a cell is invalid.
    """
    spec = read_study(study, overrides)
    with naming_link(spec):
        trainer = load_trainer(spec.trainer, spec.folder, f"{spec.place('trainer')}: ")
    # A smoke test runs each level once; there is nothing to search for.
    if smoke and spec.search:
        spec = spec.model_copy(update={"design": OneAtATime()})
    design = build_design(spec, trainer)
    if smoke:
        spec, design = smoke_study(spec, design, trainer)
    return Prepared(spec, trainer, design, place_of(spec.study, home, storage))
