"""Check what a trainer returned, and explain what it raised in one line."""

import traceback
from collections.abc import Mapping
from pathlib import Path

from ablate.errors import AblateError, TrialError

# Statistics square a metric; beyond this, the square overflows.
LARGEST = 1e150
OURS = Path(__file__).parent.parent


def finite(metrics: Mapping[str, float], what: str) -> dict[str, float]:
    """Return the metrics as plain floats.

    Raises:
        TrialError: there are none, or one is not a finite number below 1e150.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise TrialError(
            f"{what}: train returned {type(metrics).__name__}, not a dict of metrics with at least one in it"
        )
    plain = {}
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TrialError(f"{what}: metric {name!r} is {value!r}, not a number") from None
        if not abs(number) < LARGEST:
            raise TrialError(
                f"{what}: metric {name!r} is {number}; look at its loss curve and the learning rate"
            )
        plain[str(name)] = number
    return plain


def checked(metrics: Mapping[str, float], primary: str) -> dict[str, float]:
    """Return a trial's metrics, the study's own among them.

    Raises:
        TrialError: that is missing, or one is not a finite number.
    """
    plain = finite(metrics, "the trial")
    if primary not in plain:
        raise TrialError(
            f"metric.name: the trainer returned no {primary!r}; it returned {', '.join(sorted(plain))}; correct the name "
            "and run again with --retry-failed: what was trained is kept"
        )
    return plain


def reason(error: BaseException, step: int, folder: Path | None = None) -> str:
    """Say in one line why a trial failed, and after which step. `folder`: name the innermost line of a file in there."""
    if isinstance(error, AblateError):
        return str(error)
    lines = traceback.extract_tb(error.__traceback__)
    own = [line for line in lines if folder and _is_own(Path(line.filename), folder)]
    place = (own or lines)[-1]
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno}, after step {step})"


def _is_own(file: Path, folder: Path) -> bool:
    return file.is_relative_to(folder) and "site-packages" not in file.relative_to(folder).parts


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error, from the trainer on; empty for an error of ours that says everything."""
    stack = error.__traceback__
    while stack and stack.tb_next and Path(stack.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        stack = stack.tb_next
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(stack)]
    if isinstance(error, AblateError) and all(file.is_relative_to(OURS) for file in files):
        return ""
    return "".join(traceback.format_exception(error.with_traceback(stack)))


def is_of_a_lost_gpu(error: BaseException) -> bool:
    """Say whether a trainer failed with an error that CUDA gives for every later call of the process too."""
    return not isinstance(error, AblateError) and "CUDA error" in str(error)
