"""The random generators of dropout, and replaying their draws."""

import contextlib
from collections.abc import Iterator

import torch

Generators = tuple[torch.Tensor, torch.Tensor | None]  # states of torch's generator and of the GPU's


def generators_of(device: torch.device) -> Generators:
    """Return the states of the generators that dropout draws from."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextlib.contextmanager
def repeating(generators: Generators, device: torch.device) -> Iterator[None]:
    """Replay the random draws made since these states, then restore the generators."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(generators[0])
        if generators[1] is not None:
            torch.cuda.set_rng_state(generators[1], device)
        yield
