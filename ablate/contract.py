"""What a trainer is: a module with `Settings` and `train`. The whole of what a trainer may know of us.

Required names
    Settings                      a pydantic model: what a study may set, with defaults
    train(settings, context)      -> {metric name: float}

Optional names
    parts(settings)               -> {name: settings}: independent pieces, each trained once per seed and shared
    combine(settings, metrics)    -> {metric name: float}: a trial's metrics from {part name: its metrics}; default: their union
    check(settings)               raise BadInput or Unavailable before anything is trained (missing file, bad label, no network)
    smoke(settings)               -> settings: the same trial shrunk to a few steps on toy data (`ablate run --smoke`)
    measure(trainings, context)   -> {name: seconds}: what training each of {name: settings} will take on this machine, from a few
                                  timed steps (`ablate plan --measure`). All parts of a study at once: equal steps are timed once.
                                  `context.facts["measured"]` may say in words what was timed
    test(settings, context)       -> {metric name: float}: the trained model in `context.workdir` on the test split
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ablate.errors import BadInput


class Stopped(Exception):
    """Raised by `Context.checkpoint` after it saved, when the run was asked to stop. Let it pass through."""


class Pruned(Exception):
    """Raised by `Context.report` when the study's pruner gives the trial up. Let it pass through."""


class Context(Protocol):
    """What `train` is given beside its settings. One per part and seed."""

    seed: int
    device: str  # "cpu", "cuda:0", "mps"
    workdir: Path  # this part's own folder: models and whatever else should outlive the process
    cache: Path  # shared by all trials of the study: what is worth computing once (tokenised text, features)
    facts: dict[
        str, Any
    ]  # what the report should know of how this was trained (hashes of data and weights); plain JSON. `dev_rows_in_train`,
    # {task: count}, raises a flag; `examples` and `epochs`, {task: count}, do where they differ within a comparison

    def restore(self) -> dict[str, Any] | None:
        """Return the state saved last, or None when there is none that is whole."""

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Say that `step` optimizer steps are done. Saves `state()` when one is due or the run is to stop.

        A state is a dict of dicts (keys: text, numbers, None), lists, tuples, numbers, text, None, torch tensors and NumPy
        arrays, nested at will. What comes back is equal to it; subclasses come back as the plain type, tensors on the CPU,
        NumPy's scalars as arrays without dimensions.

        Raises:
            Stopped: after saving, when the run was asked to stop.
            TypeError: the state holds something else (a set, an object): a dict of its fields would do.
        """

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each named curve.

        From the first `report` or `checkpoint` on, a training that calls neither for `hang_minutes` (60) is taken for one that
        hangs: its process is ended, and it goes on from its last checkpoint. No metrics at all just say that it goes on.
        """

    def predictions(
        self, split: str, task: str, ids: Sequence[str], predicted: Sequence[float], gold: Sequence[float]
    ) -> None:
        """Keep per-item predictions: they make paired tests possible of the metric `<split>/<task>`, or of that whose value
        is their accuracy or Pearson's r. Items are paired where ids and gold are the same in all cells and seeds.

        Raises:
            TrialError: a name holds a slash or whatever else a file's name should not.
        """


class Trainer:
    """A trainer module behind its optional names."""

    def __init__(self, module: Any) -> None:
        self.name: str = module.__name__
        self.file: str = module.__file__ or ""
        self.Settings: Any = module.Settings
        self.train: Callable[[Any, Context], Mapping[str, float]] = module.train
        self._module = module

    def parts(self, settings: Any) -> dict[str, Any]:
        """Return the independent pieces of `settings`; a trainer without `parts` is one piece."""
        own = getattr(self._module, "parts", None)
        return dict(own(settings)) if own else {"all": settings}

    def combine(self, settings: Any, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return a trial's metrics from those of its parts."""
        if own := getattr(self._module, "combine", None):
            return dict(own(settings, metrics))
        return {name: value for part in metrics.values() for name, value in part.items()}

    def check(self, settings: Any) -> None:
        """Look at everything outside the settings that training needs, before anything is trained."""
        if own := getattr(self._module, "check", None):
            own(settings)

    @property
    def smoke(self) -> Callable[[Any], Any] | None:
        """How to shrink a trial, if the trainer says."""
        return getattr(self._module, "smoke", None)

    @property
    def measure(self) -> Callable[[Mapping[str, Any], Context], Mapping[str, float]] | None:
        """How to tell what trainings will take, if the trainer says."""
        return getattr(self._module, "measure", None)

    @property
    def test(self) -> Callable[[Any, Context], Mapping[str, float]] | None:
        """How to score a trained model on the test split, if the trainer says."""
        return getattr(self._module, "test", None)


def load_trainer(name: str, beside: Path) -> Trainer:
    """Import the trainer called `name`: beside the study file, in the working directory, or installed.

    Raises:
        BadInput: there is no such module, it does not import, or it lacks `Settings` or `train`.
    """
    for folder in (str(Path.cwd()), str(beside.resolve())):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise BadInput(f"trainer: {name} imports {error.name!r}, which is not installed") from error
        raise BadInput(
            f"trainer: no module {name!r} beside the study file ({beside}), in the working directory "
            "or installed; write its name without .py"
        ) from error
    except Exception as error:
        raise BadInput(f"trainer: {name} does not import: {type(error).__name__}: {error}") from error
    missing = [attribute for attribute in ("Settings", "train") if not hasattr(module, attribute)]
    if missing:
        raise BadInput(
            f"trainer: {name} ({module.__file__}) has no {' and no '.join(missing)}; a trainer needs both"
        )
    if not hasattr(module.Settings, "model_validate"):
        raise BadInput(
            f"trainer: {name}.Settings must be a pydantic BaseModel, found {type(module.Settings).__name__}"
        )
    return Trainer(module)
