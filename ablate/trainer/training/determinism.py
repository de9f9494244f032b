"""Seeds, deterministic kernels and memory."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import torch

from ablate.errors import TrialError
from ablate.text import one_line, shortened

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed of 63 bits for one purpose, independent of the seeds for other purposes."""
    words = np.random.SeedSequence([seed, crc32(purpose.encode())]).generate_state(2)
    return int(words[0]) << 31 ^ int(words[1])


def keep_freed_memory() -> None:
    """Let glibc keep freed memory. Otherwise each step's activations would go back to the system and be faulted in again, page by
    page. On other systems this does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # M_TRIM_THRESHOLD: give nothing back. M_MMAP_MAX: keep large blocks too.
        mallopt(-1, 2**31 - 1)
        mallopt(-4, 0)


@contextlib.contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Restore torch's global generators afterwards, and on CUDA use kernels that give the same bits each time.

    Raises:
        TrialError: the device is neither a CPU nor a CUDA GPU.
    """
    if not device.startswith(("cpu", "cuda")):
        raise TrialError(f"ABLATE_DEVICE: this trainer runs on cpu and cuda, found {device}")
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    before = torch.are_deterministic_algorithms_enabled()
    if cuda:
        # cuBLAS needs this to be deterministic.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # Otherwise torch fills new memory, which costs a pass over each tensor. All of ours is written before it is read.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.random.fork_rng(devices=[device.index or 0 for device in cuda]):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def catch_out_of_memory(device: str = "cpu") -> Iterator[None]:
    """Turn an out-of-memory error into a TrialError. Batch sizes are never reduced behind the user's back.

    On CUDA, cached memory is freed at the end: workers that share the GPU may need it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = shortened(one_line(error), 160)
        about_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not about_memory and not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise
        raise TrialError(
            f"out of memory ({reason}); try a smaller batch_size or max_length, or precision: bf16"
        ) from error
    finally:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
