"""A failing disk: it stops the worker, but does not fail the trial."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ablate.errors import StoreError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}


@contextlib.contextmanager
def disk_explained(place: Path) -> Iterator[None]:
    """Turn a disk failure into an error that stops the worker without failing the trial."""
    try:
        yield
    except OSError as error:
        raise disk_trouble(place, error.strerror or str(error)) from error


def disk_trouble(place: Path, what: str) -> StoreError:
    """Return the error for a failing disk, with how to fix it."""
    return StoreError(
        f"{place}: {what}; free some disk space and run again: training resumes from the last checkpoint"
    )


def is_disk_trouble(error: BaseException) -> bool:
    """Return whether a trainer failed because of the disk; libraries wrap an OSError in errors of their own."""
    if isinstance(error, OSError):
        return error.errno in _DISK_ERRORS
    return any(os.strerror(number) in str(error) for number in _DISK_ERRORS)
