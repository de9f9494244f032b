"""The machine under a trial: seeds, deterministic kernels, memory that runs out."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from zlib import crc32

import numpy as np
import torch

from ablate.errors import TrialError

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed of 63 bits for one purpose, independent of those for others."""
    words = np.random.SeedSequence([seed, crc32(purpose.encode())]).generate_state(2)
    return int(words[0]) << 31 ^ int(words[1])


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: each step's activations would else go back to the system and be faulted in again,
    page by page. Elsewhere this does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: give nothing back
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks are kept too


@contextlib.contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Leave torch's global generators as they were, and on CUDA use kernels that give the same bits each time.

    Raises:
        TrialError: the device is neither a CPU nor a CUDA GPU.
    """
    if not device.startswith(("cpu", "cuda")):
        raise TrialError(f"ABLATE_DEVICE: this trainer runs on cpu and cuda, found {device}")
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    before = torch.are_deterministic_algorithms_enabled()
    if cuda:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # what cuBLAS asks for to be deterministic
        torch.use_deterministic_algorithms(True)
        # new memory would be filled, at a pass over each tensor's; all of it is written before it is read
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.random.fork_rng(devices=[device.index or 0 for device in cuda]):
            yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def catch_out_of_memory(device: str = "cpu") -> Iterator[None]:
    """Turn memory that ran out into a TrialError. Nothing is made smaller behind the user's back.

    On CUDA, memory that is kept for later goes back in the end: workers that share the GPU may need it.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = " ".join(str(error).split())[:160]
        about_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not about_memory and not any(sign in told for sign in _OUT_OF_MEMORY):
            raise
        raise TrialError(
            f"out of memory ({told}); a smaller batch_size or max_length, or precision: bf16, would do"
        ) from error
    finally:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
