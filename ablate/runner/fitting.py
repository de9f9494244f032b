"""How many workers fit side by side on this machine, by measured memory: `--workers auto`. Pure, but for `memory_of`."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path

THREADS_EACH = 2  # of a worker that trains on a CPU: small batches leave more of them idle
USABLE = 0.9  # of a memory: a trial may need more than a few of its steps did
CUDA_CONTEXT_BYTES = 1 << 29  # what a process holds of a GPU beside its tensors
HOST = "host"

Memory = dict[str, tuple[int, int]]  # what -> (most that one worker had, of how much there is), bytes


def workers_that_fit(memory: Mapping[str, tuple[int, int]], cores: int, gpus: int) -> int:
    """Return how many workers cores, host memory and the GPUs (each like the one measured) take; at least one."""
    on_gpu = memory.keys() - {HOST}
    limits = [cores if on_gpu else cores // THREADS_EACH]
    for what, (peak, total) in memory.items():
        limits.append(int(USABLE * total // peak) * (1 if what == HOST else max(1, gpus)))
    return max(1, min(limits))


def memory_text(memory: Mapping[str, tuple[int, int]]) -> str:
    """Say what one worker had of each memory."""
    return ", ".join(
        f"one had {peak / 2**30:.1f} of {total / 2**30:.0f} GiB ({what})"
        for what, (peak, total) in memory.items()
    )


def memory_of(device: str) -> Memory:
    """Return what this process has had of the host's memory and of the device's, after it has trained on it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = {HOST: (peak_memory_bytes(), total)}
    if device.startswith("cuda"):
        cuda = importlib.import_module("torch").cuda
        peak = cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES
        memory[device] = peak, cuda.mem_get_info(device)[1]
    return memory


def peak_memory_bytes() -> int:
    """Return the largest resident size this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def visible_gpus() -> list[str]:
    """Return NVIDIA's GPUs as CUDA_VISIBLE_DEVICES names them, without loading torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    return [str(index) for index, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
