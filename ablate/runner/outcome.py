"""Check what a trainer returned, and explain what it raised in one line."""

import contextlib
import operator
import traceback
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, TrialError
from ablate.text import error_line, listed, one_line, printable, shortened, shown

# Statistics square metrics and add the squares up, which must stay finite.
LARGEST = 1e150
OURS = Path(__file__).parent.parent
# The limits of the database's columns.
LARGEST_STEP = 2**31 - 1
LONGEST_NAME = 200
LONGEST_FACT = 1000
LONGEST_REASON = 1000
DEEPEST_FACT = 8


def finite(metrics: Mapping[str, float], what: str) -> dict[str, float]:
    """Return the metrics as plain floats.

    Raises:
        TrialError: there are none, or one is not a finite number below 1e150.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        found = "an empty dict" if isinstance(metrics, Mapping) else f"a {type(metrics).__name__}"
        raise TrialError(f"{what}: train returned {found}; return a dict of metrics with at least one in it")
    plain = numbers(metrics, what)
    for name, number in plain.items():
        if not abs(number) < LARGEST:
            raise TrialError(
                f"{what}: metric {name!r} is {number}; look at its loss curve and the learning rate"
            )
    return plain


def numbers(metrics: Mapping[str, float], what: str) -> dict[str, float]:
    """Return named numbers, finite or not, as plain text and floats.

    Raises:
        TrialError: it is not a dict, or the database could not hold a name or a value.
    """
    if not isinstance(metrics, Mapping):
        raise TrialError(f"{what}: found {shown(metrics)}; pass a dict of names and numbers")
    plain = {}
    for name, value in ((str(name), value) for name, value in metrics.items()):
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise TrialError(
                f"{what}: {shown(name)} cannot name a metric; use 1 to {LONGEST_NAME} printable characters"
            )
        try:
            plain[name] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise TrialError(f"{what}: metric {name!r} is {shown(value)}, not a number") from None
    return plain


def whole_step(step: object, what: str) -> int:
    """Return the number of a step as a plain integer; database drivers reject NumPy's.

    Raises:
        TrialError: it is not an integer, or too large for the database.
    """
    number = -1
    # Not `int(step)`: it cuts 1.7 to 1, and makes a number of a million digits of Decimal("1e999999").
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if isinstance(step, Real) and not isinstance(step, bool) and float(step).is_integer():
            number = int(float(step))
        elif not isinstance(step, bool):
            number = operator.index(step)  # type: ignore[arg-type]
    if not 0 <= number <= LARGEST_STEP:
        raise TrialError(f"{what}: step {shown(step)} is not a whole number from 0 to {LARGEST_STEP:,}")
    return int(number)


def plain_facts(facts: object) -> dict[str, Any]:
    """Return a trainer's facts as plain JSON. Odd values are converted rather than refused, so that the result is kept."""
    plain = _plain(facts, depth=0)
    return plain if isinstance(plain, dict) else {} if plain is None else {"facts": plain}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) < LARGEST:
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, Mapping) and depth < DEEPEST_FACT:
        return {_fact_text(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple) and depth < DEEPEST_FACT:
        return [_plain(inner, depth + 1) for inner in value]
    return _fact_text(value)


def _fact_text(value: object) -> str:
    try:
        return shortened(printable(value if isinstance(value, str) else repr(value)), LONGEST_FACT)
    except Exception:
        return f"a {type(value).__name__}"


def checked(metrics: Mapping[str, float], primary: str) -> dict[str, float]:
    """Return a trial's metrics after checking that they include the study's.

    Raises:
        TrialError: the study's metric is missing, or a metric is not a finite number.
    """
    plain = finite(metrics, "the trial")
    if primary not in plain:
        raise TrialError(
            f"metric.name: the trainer returned no {primary!r}; it returned {', '.join(sorted(plain))}; correct the name "
            "in the study file and run again with --retry-failed: what was trained is kept"
        )
    return plain


def reason(error: BaseException, step: int, folder: Path | None = None) -> str:
    """Say in one line why a trial failed, and after which step.

    `folder`: if given, name the innermost line of the traceback in a file of this folder."""
    if isinstance(error, AblateError):
        return shortened(one_line(listed(error.faults, sep="; ")), LONGEST_REASON)
    line = error_line(error, folder)
    return f"{line[:-1]}, after step {step})" if line.endswith(")") else f"{line} (after step {step})"


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error, starting in the trainer; empty for our own errors, whose message is enough."""
    stack = error.__traceback__
    while stack and stack.tb_next and Path(stack.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        stack = stack.tb_next
    files = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(stack)]
    if isinstance(error, AblateError) and all(file.is_relative_to(OURS) for file in files):
        return ""
    return "".join(traceback.format_exception(error.with_traceback(stack)))


def is_of_a_lost_gpu(error: BaseException) -> bool:
    """Return whether the trainer failed with a sticky CUDA error: every later call in this process would fail too."""
    return not isinstance(error, AblateError) and "CUDA error" in str(error)
