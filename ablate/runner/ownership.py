"""Who works on what: a kernel lock per trial and per part, so that a dead owner is seen at once and a frozen one keeps its own.

`lockf` and not `flock`: a forked data-loader child would keep a `flock` alive. A POSIX lock falls when its process closes *any*
descriptor of the file, so each lock file is opened here, once, and nowhere else."""

import fcntl
import os
from pathlib import Path


class FileLocks:
    """Locks of one process on one host, named by keys that are safe as file names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}  # key -> file descriptor
        folder.mkdir(parents=True, exist_ok=True)

    def acquire(self, key: str) -> bool:
        """Take the lock if no living process has it. A key held by this process is not given twice."""
        if key in self._held:
            return False
        descriptor = os.open(self._folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._held[key] = descriptor
        return True

    def release(self, key: str) -> None:
        """Give a held lock back. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._held.pop(key))
