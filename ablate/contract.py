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

import contextlib
import functools
import importlib
import importlib.machinery
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
    # What the report should know of how this was trained (hashes of data and weights); plain JSON. `dev_rows_in_train`,
    # {task: count}, and `dropped_rows`, {task: {split: count}}, raise a flag each; `examples` and `epochs`, {task: count},
    # do where they differ within a comparison.
    facts: dict[str, Any]

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
        self,
        split: str,
        task: str,
        ids: Sequence[str],
        predicted: Sequence[float],
        gold: Sequence[float],
        clusters: Sequence[str] | None = None,
    ) -> None:
        """Keep per-item predictions: they make paired tests possible of the metric `<split>/<task>`, or of that whose value
        is their accuracy or Pearson's r. Items are paired where ids and gold are the same in all cells and seeds.

        `clusters` labels items that are not independent of each other (pairs that share a question, sentences of one
        document): those with one label are one cluster. Left out, every item stands for itself.

        Raises:
            TrialError: a name holds a slash or whatever else a file's name should not, or a cluster's label is blank.
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
        own = self._own("parts")
        return dict(own(settings)) if own else {"all": settings}

    def combine(self, settings: Any, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return a trial's metrics from those of its parts."""
        if own := self._own("combine"):
            return dict(own(settings, metrics))
        return {name: value for part in metrics.values() for name, value in part.items()}

    def check(self, settings: Any) -> None:
        """Look at everything outside the settings that training needs, before anything is trained."""
        if own := self._own("check"):
            own(settings)

    @property
    def smoke(self) -> Callable[[Any], Any] | None:
        """How to shrink a trial, if the trainer says."""
        return self._own("smoke")

    @property
    def measure(self) -> Callable[[Mapping[str, Any], Context], Mapping[str, float]] | None:
        """How to tell what trainings will take, if the trainer says."""
        return self._own("measure")

    @property
    def test(self) -> Callable[[Any, Context], Mapping[str, float]] | None:
        """How to score a trained model on the test split, if the trainer says."""
        return self._own("test")

    def _own(self, name: str) -> Callable[..., Any] | None:
        """Return an optional function, which may neither print among our results nor end this process."""
        function = getattr(self._module, name, None)
        return function and _contained(function, f"trainer: {self.name}.{name}")


def _contained(function: Callable[..., Any], place: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        with contextlib.redirect_stdout(sys.stderr):
            try:
                return function(*arguments)
            except SystemExit as end:
                raise BadInput(
                    f"{place}: called exit ({end.code}); raise BadInput to say what is wrong"
                ) from end

    return call


def load_trainer(name: str, beside: Path) -> Trainer:
    """Import the trainer called `name`: beside the study file, in the working directory, or installed.

    Raises:
        BadInput: there is no such module, it does not import, or it lacks `Settings` or `train`.
    """
    # A trainer of the user's own finds what lies beside it first, as a script does. One that is installed must not: it would
    # take a `datasets.py` there for the package.
    here, there = Path.cwd(), beside.resolve()
    folders = [here, there] if _lies_in(there, name) else [here] if _lies_in(here, name) else []
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise BadInput(f"trainer: {name} imports {error.name!r}, which is not installed") from error
        raise BadInput(
            f"trainer: no module {name!r} beside the study file ({beside}), in the working directory "
            "or installed; write its name without .py"
        ) from error
    except SystemExit as error:
        raise BadInput(
            f"trainer: {name} calls exit ({error.code}) when it is imported; put what it does as a script under "
            'if __name__ == "__main__":'
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


def _lies_in(folder: Path, name: str) -> bool:
    """Say whether a folder holds the source (or what was compiled of it) of the module called `name`."""
    module = folder.joinpath(*name.split("."))
    files = (module, module / "__init__")
    return any(
        Path(f"{file}{ending}").is_file() for file in files for ending in importlib.machinery.all_suffixes()
    )
