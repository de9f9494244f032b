"""The provenance of a result: versions, hardware, code. From an allowlist; the environment is never copied as a whole."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from ablate.runner.machine import cpu_name, gpu_name

NO_CHECKOUT = "not in a git checkout"
PACKAGES = ("ablate-studies", "torch", "transformers", "tokenizers", "torchjd", "numpy", "datasets", "optuna")


def machine_facts(device: str) -> dict[str, Any]:
    """Return versions, hardware and threads."""
    return {**_fixed_facts(device), "threads": os.environ.get("OMP_NUM_THREADS", "")}


@functools.cache
def _fixed_facts(device: str) -> dict[str, Any]:
    """Return what stays the same while this process lives."""
    return {
        "python": platform.python_version(),
        "platform": _platform(),
        "cpu": cpu_name(),
        "host": platform.node(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "gpu": gpu_name(device),
    }


@functools.cache
def commit_of(folder: Path) -> dict[str, str]:
    """Return {"git": the commit of a folder's checkout, or NO_CHECKOUT}; nothing if git cannot tell."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        in_english = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=in_english)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if "not a git repository" in done.stderr:
        return {"git": NO_CHECKOUT}
    return {"git": done.stdout.strip()} if done.returncode == 0 else {}


def _platform() -> str:
    """System, machine and C library, which can change numbers. The kernel's version is private and left out."""
    return "-".join(filter(None, (platform.system(), platform.machine(), "".join(platform.libc_ver()))))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
