"""Which system calls a command makes, in order: the only proof that what it writes is durable."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


DURABLE = "fsync,fdatasync,rename,renameat,renameat2"


def traced(log: Path, *command: str, calls: str = DURABLE) -> list[str]:
    """Run a command; return these calls of it and its children in order, with the paths of the descriptors."""
    strace = ["strace", "-f", "-y", "-qq", "-e", "signal=none", "-e", f"trace={calls}", "-o", str(log)]
    subprocess.run([*strace, *command], check=True, capture_output=True, cwd=log.parent)
    return [re.sub(r"^\d+ +", "", line) for line in log.read_text().splitlines() if "resumed>" not in line]


def place(calls: list[str], pattern: str) -> int:
    """Return which of the calls is the first that matches."""
    return next(at for at, call in enumerate(calls) if re.search(pattern, call))
