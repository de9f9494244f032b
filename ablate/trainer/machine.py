"""The machine under a trial: seeds, deterministic kernels, memory that runs out."""

import contextlib
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


@contextlib.contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Leave torch's global generators as they were, and on CUDA use kernels that give the same bits each time.

    On CUDA, memory that is kept for later goes back in the end: workers that share the GPU may need it.
    """
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
        if cuda:
            torch.cuda.empty_cache()


@contextlib.contextmanager
def catch_out_of_memory() -> Iterator[None]:
    """Turn memory that ran out into a TrialError. Nothing is made smaller behind the user's back."""
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
