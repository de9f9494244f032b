"""What a result was made with: versions, hardware, code. An allowlist: nothing of the environment is copied wholesale."""

import functools
import importlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("ablate-studies", "torch", "transformers", "tokenizers", "torchjd", "numpy", "datasets", "optuna")


@functools.cache
def machine_facts(trainer_file: str, device: str) -> dict[str, Any]:
    """Return what does not change while this process lives: versions, hardware, the state of the trainer's repository."""
    return {
        "python": platform.python_version(),
        "platform": _platform(),
        "cpu": cpu_name(),
        "host": platform.node(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "gpu": _gpu_name(device),
        **_git_facts(Path(trainer_file).parent if trainer_file else Path.cwd()),
    }


def _platform() -> str:
    """System, machine and C library: what changes numbers; which kernel the machine runs is its owner's."""
    return "-".join(filter(None, (platform.system(), platform.machine(), "".join(platform.libc_ver()))))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Return the processor's name as its maker writes it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_name(device: str) -> str | None:
    return (
        importlib.import_module("torch").cuda.get_device_name(device) if device.startswith("cuda") else None
    )


def joules_used(device: str) -> Callable[[], float | None]:
    """Return a function that tells what the whole GPU has used since now; None on a CPU, without NVML, on old GPUs."""
    start = _gpu_joules(device)

    def since() -> float | None:
        now = _gpu_joules(device)
        return None if start is None or now is None else now - start

    return since


def _gpu_joules(device: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    try:
        torch, nvml = importlib.import_module("torch"), importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except Exception:  # whatever is missing here, a figure less in the report ends no trial
        return None


def _git_facts(folder: Path) -> dict[str, str]:
    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    sha = git("rev-parse", "HEAD")
    if sha is None:
        return {}
    return {"git": sha, "git_changed_files": str(len((git("status", "--porcelain") or "").splitlines()))}
