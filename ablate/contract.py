"""The contract of a trainer: a module with `Settings` and `train`. A trainer needs nothing else from this package.

Required names
    Settings                      a pydantic model: what a study may set, with defaults
    train(settings, context)      -> {metric name: float}

Optional names
    parts(settings)               -> {name: settings}: independent pieces, each trained once per seed and shared
    combine(settings, metrics)    -> {metric name: float}: a trial's metrics from {part name: its metrics}; default: their union
    check(settings)               raise BadInput or Unavailable before anything is trained (missing file, bad label, no network);
                                  BadSetting puts the fault at that setting's place in the study file
    gpus(settings)                -> how many GPUs training needs; default: 1. `context.gpus` has that many of the worker's
    smoke(settings)               -> settings: the same trial shrunk to a few steps on toy data (`ablate run --smoke`)
    measure(trainings, context)   -> {name: seconds}: how long training each of {name: settings} will take on this machine,
                                  estimated from a few timed steps (`ablate plan --measure`). One call gets all parts of a study,
                                  so that equal steps are timed once. `context.facts["measured"]` may describe what was timed
    test(settings, context)       -> {metric name: float}: the trained model in `context.workdir` on the test split
    sources(settings)             -> [path]: files that are its code beside the modules that it imports, such as scripts that it
                                  starts; relative paths start at the study file. Trials of other code are not mixed silently
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
    """Raised by `Context.checkpoint` after it saved, when the run was asked to stop. Let it pass through.

    A trainer that saves its own state raises it after saving, when `Context.stopping` is true."""


class Pruned(Exception):
    """Raised by `Context.report` when the study's pruner stops the trial. Let it pass through."""


class Context(Protocol):
    """What `train` receives besides its settings: one context per part and seed.

    Whatever is written to stdout and stderr, by other programs on file descriptors 1 and 2 too, goes to the attempt's log."""

    seed: int
    attempt: (
        int  # which start of the trial this is, from 1; an interrupted trial continues in its next attempt
    )
    device: str  # "cpu", "cuda:0", "mps"
    gpus: Sequence[str]  # the GPUs to train on, as CUDA_VISIBLE_DEVICES names them; none on a CPU
    # This part's own folder, the same in every attempt, for models and anything else that should outlive the process.
    workdir: Path
    cache: (
        Path  # shared by all trials of the study, for what is worth computing once (tokenised text, features)
    )
    # How this part was trained, as plain JSON for the report (hashes of data and weights). Some keys raise flags:
    # `dev_rows_in_train`, {task: count}, and `dropped_rows`, {task: {split: count}}, always; `examples` and `epochs`,
    # {task: count}, where they differ between the sides of a comparison.
    facts: dict[str, Any]

    def restore(self) -> dict[str, Any] | None:
        """Return the last state that was saved completely, or None if there is none."""

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Report that `step` optimizer steps are done. Saves `state()` when a checkpoint is due or the run should stop.

        A state is any nesting of dicts (keys: strings, numbers, None), lists, tuples, numbers, strings, None, torch tensors
        and NumPy arrays. `restore` returns an equal state: subclasses become the plain type, tensors are on the CPU, and
        NumPy scalars become arrays without dimensions.

        Raises:
            Stopped: after saving, when the run was asked to stop.
            TypeError: the state holds anything else (a set, an object); save a dict of its fields instead.
        """

    def stopping(self) -> bool:
        """Return whether the run was asked to stop. `checkpoint` checks this itself; a trainer that waits must ask."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each named curve.

        After the first `report` or `checkpoint`, a training that calls neither for `hang_minutes` (60) counts as hung: its
        process is killed, and the trial continues from its last checkpoint. An empty dict only shows that it is alive.
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
        """Save the prediction for each item. The report uses them to separate the noise of items from the noise of seeds.

        They belong to the metric `<split>/<task>`, or to the metric whose value is their accuracy or Pearson's r. Items are
        paired if ids and gold are the same in all cells and seeds. `clusters` labels items that depend on each other (pairs
        that share a question, sentences of one document); items with the same label form a cluster. Without it, items count
        as independent.

        Raises:
            TrialError: a name contains a slash or another character that file names cannot have, or a cluster label is blank.
        """


class Trainer:
    """A trainer module, with defaults for the names it leaves out."""

    def __init__(self, module: Any) -> None:
        self.name: str = module.__name__
        self.file: str = module.__file__ or ""
        self.Settings: Any = module.Settings
        self.train: Callable[[Any, Context], Mapping[str, float]] = module.train
        self._module = module

    def parts(self, settings: Any) -> dict[str, Any]:
        """Return the independent parts of `settings`; a trainer without `parts` has one."""
        own = self._own("parts")
        return dict(own(settings)) if own else {"all": settings}

    def combine(self, settings: Any, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return a trial's metrics from those of its parts."""
        if own := self._own("combine"):
            return dict(own(settings, metrics))
        return {name: value for part in metrics.values() for name, value in part.items()}

    def check(self, settings: Any) -> None:
        """Check everything that training needs beyond its settings (files, network), before anything is trained."""
        if own := self._own("check"):
            own(settings)

    def gpus(self, settings: Any) -> int:
        """Return how many GPUs training with `settings` needs."""
        own = self._own("gpus")
        return int(own(settings)) if own else 1

    def sources(self, settings: Any) -> list[Path]:
        """Return the files that are the trainer's code beside the modules that it imports."""
        own = self._own("sources")
        return [Path(file) for file in own(settings)] if own else []

    @property
    def smoke(self) -> Callable[[Any], Any] | None:
        """The trainer's `smoke`, if it has one."""
        return self._own("smoke")

    @property
    def measure(self) -> Callable[[Mapping[str, Any], Context], Mapping[str, float]] | None:
        """The trainer's `measure`, if it has one."""
        return self._own("measure")

    @property
    def test(self) -> Callable[[Any, Context], Mapping[str, float]] | None:
        """The trainer's `test`, if it has one."""
        return self._own("test")

    def _own(self, name: str) -> Callable[..., Any] | None:
        """Return an optional function, wrapped so that it can neither print to stdout nor exit the process."""
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
                    f"{place}: called exit ({end.code}); raise BadInput with what is wrong instead"
                ) from end

    return call


def load_trainer(name: str, beside: Path) -> Trainer:
    """Import the trainer called `name`: beside the study file, in the working directory, or installed.

    Raises:
        BadInput: there is no such module, it does not import, or it lacks `Settings` or `train`.
    """
    # A trainer beside the study file imports its neighbours first, as a script does. An installed trainer must not: a
    # `datasets.py` there would shadow the package.
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
            f"trainer: {name} calls exit ({error.code}) when it is imported; move its script code under "
            'if __name__ == "__main__":'
        ) from error
    except Exception as error:
        raise BadInput(f"trainer: importing {name} failed: {type(error).__name__}: {error}") from error
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
    """Return whether a folder contains the module called `name`, as source or compiled."""
    module = folder.joinpath(*name.split("."))
    files = (module, module / "__init__")
    return any(
        Path(f"{file}{ending}").is_file() for file in files for ending in importlib.machinery.all_suffixes()
    )
