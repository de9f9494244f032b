"""The machine that a study runs on: its processor, GPUs and memory, and each worker's share of them.

Loads torch only if a GPU is used."""

import importlib
import os
import platform
import resource
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ablate.runner import leftovers

# The most threads of a worker on a CPU: with small batches, more would be idle.
THREADS_EACH = 2
# Share of memory to plan with: a trial may need more than the few steps that were measured.
USABLE = 0.9
CUDA_CONTEXT_BYTES = 1 << 29  # GPU memory of a process besides its tensors
HOST = "host"
NVIDIA = Path("/proc/driver/nvidia/gpus")

Memory = dict[str, tuple[int, int]]  # kind -> (peak of one worker, total), in bytes


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_name() -> str:
    """Return the processor's model name."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu_name(device: str) -> str | None:
    """Return the name of a CUDA device; None for other devices."""
    return importlib.import_module("torch").cuda.get_device_name(device) if _is_cuda(device) else None


def gpu_names() -> list[str]:
    """Return the names of NVIDIA's GPUs without loading torch."""
    texts = [file.read_text() for file in sorted(NVIDIA.glob("*/information"))]
    lines = [line for text in texts for line in text.splitlines()]
    return [line.partition(":")[2].strip() for line in lines if "Model:" in line]


def visible_gpus() -> list[str]:
    """Return NVIDIA's GPUs as CUDA_VISIBLE_DEVICES names them, without loading torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    return [str(index) for index, _ in enumerate(NVIDIA.glob("*"))]


def gpus_for(needed: int) -> list[str]:
    """Return the GPUs to train on if that many are needed; if ABLATE_DEVICE is set, all GPUs of this process."""
    gpus = visible_gpus()
    return gpus if "ABLATE_DEVICE" in os.environ else gpus[:needed]


def choose_device() -> str:
    """Return the device to train on: ABLATE_DEVICE, or the first GPU that torch sees, or the CPU."""
    if named := os.environ.get("ABLATE_DEVICE"):
        return named
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()):
        return "cpu"
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return "cpu"
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def worker_environment(workers: int, index: int = 0, gpus_each: int = 1) -> dict[str, str]:
    """Return the environment of a worker: its share of the machine's cores and GPUs, and quiet libraries.

    `gpus_each`: how many a worker needs. Workers that need one may share it."""
    environment = dict(os.environ)
    # The database's URL is sent with the job instead.
    environment.pop("ABLATE_STORAGE", None)
    asked = environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // workers)))
    # Otherwise MKL takes all cores, and torch follows MKL.
    environment.setdefault("MKL_NUM_THREADS", asked)
    gpus = visible_gpus()
    if workers > 1 and len(gpus) > 1 and "ABLATE_DEVICE" not in environment:
        first = index % max(1, len(gpus) // gpus_each) * gpus_each
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + gpus_each])
    environment[leftovers.NAME] = secrets.token_hex(8)
    # Read when CUDA starts; without it sums may differ from run to run.
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # With a fixed hash seed, a trainer that iterates over a set gives the same bits each time.
    environment.setdefault("PYTHONHASHSEED", "0")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return environment


def take_worker_environment() -> None:
    """Replace this process by the same command in a worker's environment, unless it has it already.

    Python reads its hash seed only when it starts."""
    environment = os.environ | worker_environment(1)
    if environment.keys() != os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-P", "-m", "ablate", *sys.argv[1:]], environment)


def workers_that_fit(memory: Mapping[str, tuple[int, int]], cores: int, gpus: int) -> int:
    """Return how many workers fit: by cores, host memory, and GPUs (all like the measured one). At least one."""
    on_gpu = memory.keys() - {HOST}
    limits = [cores if on_gpu else cores // THREADS_EACH]
    for what, (peak, total) in memory.items():
        limits.append(int(USABLE * total // peak) * (1 if what == HOST else max(1, gpus)))
    return max(1, min(limits))


def memory_text(memory: Mapping[str, tuple[int, int]]) -> str:
    """Describe how much host and GPU memory one worker used."""
    return "one worker used " + ", ".join(
        f"{peak / 2**30:.1f} of {total / 2**30:.0f} GiB ({what})" for what, (peak, total) in memory.items()
    )


def memory_of(device: str) -> Memory:
    """Return this process's peak host and device memory, after it has trained on the device."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = {HOST: (peak_memory_bytes(), total)}
    if _is_cuda(device):
        cuda = importlib.import_module("torch").cuda
        peak = cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES
        memory[device] = peak, cuda.mem_get_info(device)[1]
    return memory


def peak_memory_bytes() -> int:
    """Return the largest resident size this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def joules_used(device: str) -> Callable[[], float | None]:
    """Return a function that returns the whole GPU's energy use since this call; None on a CPU, without NVML, on old GPUs."""
    start = _gpu_joules(device)

    def since() -> float | None:
        now = _gpu_joules(device)
        return None if start is None or now is None else now - start

    return since


def _gpu_joules(device: str) -> float | None:
    if not _is_cuda(device):
        return None
    try:
        torch, nvml = importlib.import_module("torch"), importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    # Without this the report only lacks a number; no trial should fail for it.
    except Exception:
        return None


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda")
