"""The contract of a trainer: a module with `Settings` and `train`. A trainer needs nothing else from this package.

Required names
    Settings                      a pydantic model: what a study may set, with defaults
    train(settings, context)      -> {metric name: float}

Optional names
    parts(settings)               -> {name: settings}: independent pieces, each trained once per seed and shared
    prefixes(settings)            -> {name: settings}: named points in the training of a part, first to last, each with only those
                                  settings that decide the training up to there and all others at their defaults. Parts that
                                  agree on them train that beginning once; see `Context.prefix`
    combine(settings, metrics)    -> {metric name: float}: a trial's metrics from {part name: its metrics}; default: their union.
                                  `ablate test` calls it too, with the metrics that `test` returned for each part
    check(settings)               raise BadInput or Unavailable before anything is trained (missing file, bad label, no network);
                                  BadSetting puts the fault at that setting's place in the study file
    gpus(settings)                -> how many GPUs training needs; default: 1. `context.gpus` lists that many
    smoke(settings)               -> settings: the same trial shrunk to a few steps on toy data (`ablate run --smoke`)
    measure(trainings, context)   -> {name: seconds}: how long training each of {name: settings} will take on this machine,
                                  estimated from a few timed steps (`ablate plan --measure`). One call gets all parts of a study,
                                  so that equal steps are timed once. `context.facts["measured"]` may describe what was timed
    test(settings, context)       -> {metric name: float}: the trained model in `context.workdir` on the test split; called for
                                  each part and seed of the best cell, with the part's settings. Names begin with `test/`.
                                  `context.predictions("test", ...)` works here too
    sources(settings)             -> [path]: files that are part of its code besides the modules that it imports, such as scripts
                                  that it starts, relative to the study file. A run refuses to mix trials of different code
                                  unless told how (`--code`)
"""

import contextlib
import importlib
import importlib.machinery
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ablate.errors import AblateError, BadInput
from ablate.text import error_line, shown

# Modules that this package imports. A file next to a trainer may share its name with any other module of the standard library,
# such as test.py.
NEEDED = (
    "jinja2 matplotlib numpy optuna pandas pyarrow pydantic rich ruamel safetensors scipy sqlalchemy typer "
    "csv queue random socket sqlite3 statistics subprocess tempfile uuid"
)


class Stopped(Exception):
    """Raised by `Context.checkpoint` after saving, when the run was asked to stop. Let it pass through.

    A trainer that saves its own state raises it after saving, when `Context.stopping` is true."""


class Pruned(Exception):
    """Raised by `Context.report` when the study's pruner stops the trial. Let it pass through."""


class Context(Protocol):
    """What `train` receives besides its settings: one context per part and seed.

    All output to stdout and stderr goes to the attempt's log, including that of subprocesses (file descriptors 1 and 2)."""

    seed: int
    # Counts the starts of the trial, from 1; an interrupted trial continues in its next attempt.
    attempt: int
    device: str  # "cpu", "cuda:0", "mps"
    gpus: Sequence[str]  # the GPUs to train on, as CUDA_VISIBLE_DEVICES names them; empty on a CPU
    # This part's own folder, the same in every attempt, for models and anything else that should outlive the process.
    workdir: Path
    # Shared by all trials of the study, for what is worth computing once (tokenised text, features).
    cache: Path
    # How this part was trained, as plain JSON for the report (hashes of data and weights). Some keys raise flags:
    # `dev_rows_in_train`, {task: count}, and `dropped_rows`, {task: {split: count}}, always; `examples` and `epochs`,
    # {task: count}, where they differ between the sides of a comparison; `stopped_early`, {"steps": taken, "of": planned}, if
    # training ended because dev no longer improved. `metrics`, {metric: its kind}, names metrics other than `accuracy` and
    # `pearson`, such as {"dev/cola": "mcc"}, for which the report estimates no noise of items.
    facts: dict[str, Any]

    def restore(self) -> dict[str, Any] | None:
        """Return the last state that was saved completely: by `checkpoint`, or by `prefix` of a part that begins alike. None if
        there is none."""

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Report that `step` optimizer steps are done. Saves `state()` when a checkpoint is due or the run should stop.

        A state is any nesting of dicts (keys: strings, numbers, None), lists, tuples, numbers, strings, None, torch tensors
        and NumPy arrays. `restore` returns an equal state: subclasses become the plain type, tensors are on the CPU, and
        NumPy scalars become arrays without dimensions.

        Raises:
            Stopped: after saving, when the run was asked to stop.
            TypeError: the state holds anything else (a set, an object); save a dict of its fields instead.
        """

    def prefix(self, name: str, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Report that `step` steps are done and that the point `name` of the trainer's `prefixes` is reached.

        If another part that begins alike still has to be trained, `state()` is saved as by `checkpoint`, and that part's
        `restore` returns it. Its curves then begin with the points reported here, and its seconds include those up to here.
        Nothing else is handed on: not `facts`, no file in `workdir`, no predictions. Call this before `checkpoint`.

        Raises:
            TrialError: `prefixes` gives no such name for this part.
            TypeError: as `checkpoint`.
        """

    def stopping(self) -> bool:
        """Return whether the run was asked to stop. `checkpoint` checks
        this itself; a trainer that waits for something must call this."""

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each named curve. From a curve's 10,000th point on, every second point is kept; from the 20,000th
        on, every fourth; and so on.

        After the first `report` or `checkpoint`, a process that calls neither for
        `hang_minutes` (60) counts as hung: it is killed, and the trial continues from
        its last checkpoint. Report an empty dict just to show that the process is alive.
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

        They belong to the metric `<split>/<task>`, or to the metric whose value is their accuracy or
        Pearson's r. Items are paired if ids, gold and clusters are the same, in the same order, in all cells
        and seeds. `clusters` labels items that depend on each other (pairs that share a question, sentences
        of one document); items with the same label form a cluster. Without it, items count as independent.

        Raises:
            TrialError: a name contains a slash or another character that file names cannot have, or a cluster label is blank.
        """


class Trainer:
    """A trainer module, with defaults for the names it leaves out."""

    def __init__(self, module: Any, place: str = "") -> None:
        """`place`: where the study file names it, as `file:line:column: `."""
        self.name: str = module.__name__
        self.file: str = getattr(module, "__file__", None) or ""
        self.place = place
        self.Settings: Any = module.Settings
        self.train: Callable[[Any, Context], Mapping[str, float]] = module.train
        self._module = module

    @property
    def is_built_in(self) -> bool:
        """Whether the trainer is part of this package, so that advice to add a function to it would be useless."""
        return self.name.partition(".")[0] == __name__.partition(".")[0]

    def parts(self, settings: Any) -> dict[str, Any]:
        """Return the independent parts of `settings`; a trainer without `parts` has one."""
        if (function := self._own("parts")) is None:
            return {"all": settings}
        parts = function(settings)
        if not isinstance(parts, Mapping):
            raise BadInput(f"{self.saying('parts')}: returned {shown(parts)}, not a dict of settings by name")
        return dict(parts)

    def prefixes(self, settings: Any) -> dict[str, Any]:
        """Return the points of a part's training that other parts may share, with the settings that decide it up to there."""
        if (function := self._own("prefixes")) is None:
            return {}
        prefixes = function(settings)
        if not isinstance(prefixes, Mapping):
            raise BadInput(
                f"{self.saying('prefixes')}: returned {shown(prefixes)}, not a dict of settings by name"
            )
        return dict(prefixes)

    def combine(self, settings: Any, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return a trial's metrics from those of its parts."""
        if function := self._own("combine"):
            combined = function(settings, metrics)
            if not isinstance(combined, Mapping):
                raise BadInput(f"{self.saying('combine')}: returned {shown(combined)}, not a dict of metrics")
            return dict(combined)
        return {name: value for part in metrics.values() for name, value in part.items()}

    def check(self, settings: Any) -> None:
        """Check everything that training needs beyond its settings (files, network), before anything is trained."""
        if function := self._own("check"):
            function(settings)

    def gpus(self, settings: Any) -> int:
        """Return how many GPUs training with `settings` needs."""
        if (function := self._own("gpus")) is None:
            return 1
        gpus = function(settings)
        if not isinstance(gpus, int) or gpus < 0:
            raise BadInput(f"{self.saying('gpus')}: returned {shown(gpus)}, not a number of GPUs")
        return gpus

    def sources(self, settings: Any) -> list[Path]:
        """Return the files that are part of the trainer's code besides the modules that it imports."""
        if (function := self._own("sources")) is None:
            return []
        files = function(settings)
        if isinstance(files, str) or not isinstance(files, Iterable):
            raise BadInput(f"{self.saying('sources')}: returned {shown(files)}, not a list of paths")
        with self.blamed("sources"):
            return [Path(file) for file in files]

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
        """Return an optional function, wrapped: it cannot print to stdout or exit the process, and its errors name its line."""
        function = _attribute(self._module, name)
        if function is None:
            return None

        def call(*arguments: Any) -> Any:
            with contextlib.redirect_stdout(sys.stderr), self.blamed(name):
                return function(*arguments)

        return call

    def saying(self, name: str) -> str:
        """Return the beginning of a message about one of the trainer's functions."""
        return f"{self.place}trainer: {self.name}.{name}"

    @contextlib.contextmanager
    def blamed(self, name: str) -> Iterator[None]:
        """Turn errors raised in one of the trainer's functions into one-line messages that name the line in the trainer's file.

        Raises:
            BadInput: in place of the error. AblateError, Stopped and Pruned pass through.
        """
        try:
            yield
        except (AblateError, Stopped, Pruned):
            raise
        except SystemExit as end:
            if _is_by_signal(end):
                raise
            what = f"called exit ({end.code}); raise BadInput with what is wrong instead"
            raise BadInput(f"{self.saying(name)}: {what}") from end
        except Exception as error:
            raise BadInput(f"{self.saying(name)}: {error_line(error, Path(self.file).parent)}") from error


def _is_by_signal(end: SystemExit) -> bool:
    """Return whether an exit is our own response to a signal that arrived while the trainer ran."""
    return isinstance(end.code, int) and end.code > 128


def load_trainer(name: str, beside: Path, place: str = "") -> Trainer:
    """Import the trainer called `name`: next to the study file, in the working directory, or installed.

    `place`: where the study file names it, for messages, as `file:line:column: `.

    Raises:
        BadInput: there is no such module, it cannot be imported, or it lacks `Settings` or `train`.
    """
    try:
        return Trainer(_imported(name, beside), place)
    except BadInput as error:
        raise BadInput(*(place + fault for fault in error.faults)) from error.__cause__


def _imported(name: str, beside: Path) -> Any:
    # A trainer next to the study file finds its neighbours first, like a script. For an installed trainer that must not happen:
    # a `datasets.py` there would shadow the package.
    here, there = Path.cwd(), beside.resolve()
    first = next((folder for folder in (there, here) if _lies_in(folder, name)), None)
    if first:
        _refuse_shadows(first)
        if str(first) not in sys.path:
            sys.path.insert(0, str(first))
        # For helpers in the working directory; last, as anything may lie there.
        if str(here) not in sys.path:
            sys.path.append(str(here))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise BadInput(f"trainer: {name} imports {error.name!r}, which is not installed") from error
        raise BadInput(
            f"trainer: no module {name!r} next to the study file ({beside}), in the working directory "
            "or installed; write its name without .py"
        ) from error
    except SystemExit as error:
        if _is_by_signal(error):
            raise
        raise BadInput(
            f"trainer: {name} calls exit ({error.code}) when it is imported; move its script code under "
            'if __name__ == "__main__":'
        ) from error
    except (AblateError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise BadInput(f"trainer: importing {name} failed: {error_line(error, beside.resolve())}") from error
    missing = [attribute for attribute in ("Settings", "train") if _attribute(module, attribute) is None]
    if missing:
        file = getattr(module, "__file__", None) or "built into Python"
        raise BadInput(f"trainer: {name} ({file}) has no {' and no '.join(missing)}; a trainer needs both")
    if not isinstance(module.Settings, type) or not hasattr(module.Settings, "model_validate"):
        raise BadInput(
            f"trainer: {name}.Settings must be a class derived from pydantic's BaseModel, found {shown(module.Settings)}"
        )
    if not callable(module.train):
        raise BadInput(f"trainer: {name}.train must be a function, found {shown(module.train)}")
    return module


def _refuse_shadows(folder: Path) -> None:
    """Refuse modules next to a trainer that would be imported instead of modules that we need.

    Those that this process has imported are not shadowed here, but in one that has not."""
    for name in sorted(NEEDED.split()):
        if file := _lies_in(folder, name):
            raise BadInput(
                f"trainer: {file} would be imported instead of the package {name!r}; rename it, or move the "
                "study and its trainer to a folder of their own"
            )


def _attribute(module: Any, name: str) -> Any:
    """Return one of a module's names, or None; a module's own `__getattr__` may raise anything."""
    try:
        return getattr(module, name, None)
    except Exception:
        return None


def _lies_in(folder: Path, name: str) -> Path | None:
    """Return the file of the module called `name` in a folder, source or compiled; None if it is not there."""
    module = folder.joinpath(*name.split("."))
    endings = importlib.machinery.all_suffixes()
    files = (Path(f"{file}{ending}") for file in (module, module / "__init__") for ending in endings)
    return next((file for file in files if file.is_file()), None)
