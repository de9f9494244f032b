"""`ablate doctor`: what works on this machine, how to fix the rest, and what to type next. It changes nothing."""

import fcntl
import importlib
import importlib.util
import os
import shlex
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import AblateError, BadInput
from ablate.spec.reading import read_study
from ablate.store.database_errors import explained
from ablate.store.opening import connect
from ablate.store.sessions import lock_session
from ablate.store.urls import sqlite_file, without_password

HUB = "huggingface.co"
LEAST_FREE_GB = 5


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    works: bool
    found: str
    advice: str = ""


def examine(home: Path, storage: str | None) -> Iterator[Finding]:
    """Yield a finding for each thing that a study may need, cheapest first."""
    there = next(folder for folder in (home.resolve(), *home.resolve().parents) if folder.exists())
    yield _disk(there)
    yield _locks(there)
    yield _database(storage)
    yield _optional(
        "PostgreSQL driver", "psycopg", "pip install 'ablate-studies[postgres]', for several machines"
    )
    yield _optional(
        "dashboard", "optuna_dashboard", "pip install 'ablate-studies[dashboard]', to look at trials live"
    )
    yield _hub()
    yield from _torch()


def _disk(there: Path) -> Finding:
    free_gb = shutil.disk_usage(there).free / 2**30
    writable = os.access(there, os.W_OK)
    advice = "" if writable else f"make {there} writable, or set ABLATE_HOME"
    if free_gb < LEAST_FREE_GB:
        advice = "free some space: checkpoints and models of a study take gigabytes"
    return Finding("disk", writable and free_gb >= LEAST_FREE_GB, f"{free_gb:.0f} GB free at {there}", advice)


def _locks(there: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Finding("file locks", False, str(error), "keep the home on a local disk, or use PostgreSQL")
    return Finding("file locks", True, f"work at {there}")


def _database(storage: str | None) -> Finding:
    url = storage or os.environ.get("ABLATE_STORAGE")
    if url is None:
        return Finding("database", True, f"SQLite {sqlite3.sqlite_version}, one file per study")
    try:
        with explained(url), connect(url).connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        if sqlite_file(url) is None:
            lock_session(url).close()
    except (AblateError, ImportError) as error:
        return Finding("database", False, str(error), "or leave --storage out to use SQLite")
    return Finding("database", True, without_password(url))


def _optional(what: str, module: str, advice: str) -> Finding:
    there = importlib.util.find_spec(module) is not None
    return Finding(what, there, "installed" if there else "not installed", "" if there else advice)


def _hub() -> Finding:
    advice = "name local files for data and encoder, or download them elsewhere and copy ~/.cache/huggingface"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding("hub", False, "switched off by HF_HUB_OFFLINE", advice)
    try:
        socket.create_connection((HUB, 443), timeout=3).close()
    except OSError as error:
        return Finding("hub", False, f"{HUB} cannot be reached ({error})", advice)
    return Finding("hub", True, f"{HUB} answers")


def _torch() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        yield Finding(
            "torch", False, str(error), "pip install 'torch>=2.8,<2.14'; your own trainer may not need it"
        )
        return
    yield Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield Finding(
            "GPU", True, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GB, CUDA {torch.version.cuda}, {bf16}"
        )
        return
    has_driver, is_cuda_build = shutil.which("nvidia-smi") is not None, torch.version.cuda is not None
    if has_driver and is_cuda_build:
        found, advice = "a driver and a CUDA build, but no GPU responds", "run nvidia-smi; update the driver"
    elif has_driver:
        found, advice = (
            "a driver, but torch is a CPU build",
            "pip install --force-reinstall torch (a CUDA build)",
        )
    elif is_cuda_build:
        found, advice = "no driver", "install the NVIDIA driver, or train on the CPU"
    else:
        found, advice = "none; training on the CPU", "fine for quickstart; full_grid needs a GPU"
    yield Finding("GPU", False, found, advice)


def findings_text(findings: Iterator[Finding], say: Callable[[str], None]) -> None:
    """Print each finding as one line as soon as it is known."""
    for finding in findings:
        mark = "ok  " if finding.works else "--  "
        say(f"{mark}{finding.what}: {finding.found}" + (f"; {finding.advice}" if finding.advice else ""))


def next_command(here: Path, home: Path) -> str:
    """Return the next command: `init` if there is no study here, `plan` for the newest one, `run` if that has begun."""
    studies = [
        file for pattern in ("*.yaml", "studies/*.yaml") for file in here.glob(pattern) if _is_study(file)
    ]
    if not studies:
        return "ablate init --template script|transformers|multitask|csv    (or --script YOURS.py)"
    newest = max(studies, key=lambda file: file.stat().st_mtime)
    command = "run" if _has_begun(newest, home) else "plan"
    return f"ablate {command} {shlex.quote(str(newest))}"


def _is_study(file: Path) -> bool:
    try:
        return any(line.startswith("study:") for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return False


def _has_begun(file: Path, home: Path) -> bool:
    try:
        return (home / read_study(file).study).is_dir()
    # An invalid study has not begun; `plan` lists its faults.
    except BadInput:
        return False
