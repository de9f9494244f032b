"""Durable checkpoints: after a kill, a power cut or damage, the newest intact one is loaded.

A file is a line with the format, a line with the SHA-256 of the rest, and a safetensors payload: the bytes of each tensor,
and one JSON tree with everything else. Loading one never runs code from it. The previous checkpoint is kept."""

import fnmatch
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ablate.errors import StoreError
from ablate.files import remove, write_file
from ablate.text import one_line, shortened

FORMAT = b"ablate checkpoint 1\n"
KEPT = 2
_NAMES = "step-*.checkpoint"
_DIGEST_LINE = 65  # 64 hex digits and a newline


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> int:
    """Write `state` as the checkpoint of `step`, durably, and return
    its size in bytes. Of the older ones, only the last is kept.

    Raises:
        TypeError: the state contains something that `contract.Context.checkpoint` does not allow.
        OSError: the disk is full or failing; the previous checkpoint is untouched.
    """
    target = folder / f"step-{step:012d}.checkpoint"
    size = write_state(target, state)
    there = _newest_first(folder)
    # A checkpoint of a later step was damaged and skipped on loading: remove it.
    kept = [file for file in there if file <= target][:KEPT]
    for old in set(there) - set(kept):
        remove(old)
    return size


def write_state(file: Path, state: dict[str, Any]) -> int:
    """Write `state` to a file, durably, and return its size in bytes.

    Raises:
        TypeError, OSError: as `save_checkpoint`.
    """
    buffers: dict[str, np.ndarray] = {}
    tree = _flatten(state, buffers, "state")
    buffers["tree"] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    payload = safetensors.numpy.save(buffers)
    if file.is_dir():
        remove(file)
    write_file(file, FORMAT, hashlib.sha256(payload).hexdigest().encode() + b"\n", payload)
    return len(payload)


def load_checkpoint(
    folder: Path, notice: Any = None, check: Callable[[dict[str, Any]], None] = lambda state: None
) -> dict[str, Any] | None:
    """Return the newest intact state, or None. `notice(line)` is called for each damaged file.

    `check(state)` raises ValueError for an intact state that must not be used.

    Raises:
        StoreError: a file or the folder exists but cannot be read now. Skipping
            it would lose it, since the next save removes newer checkpoints.
    """
    for file in _newest_first(folder):
        try:
            # Opening a pipe would block.
            if not file.is_file():
                raise ValueError("not a file")
            state = read_state(file)
            check(state)
            return state
        except OSError as error:
            raise _unreadable(file, error) from error
        except MemoryError:
            raise
        # Reading a tree that we did not write may raise anything: NumPy parses the name of a dtype.
        except Exception as error:
            if notice:
                notice(f"{file}: damaged checkpoint skipped ({shortened(one_line(error), 200)})")
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a recorded part."""
    for file in _newest_first(folder):
        remove(file)


def _newest_first(folder: Path) -> list[Path]:
    # Not `folder.glob`: some Python versions treat a folder that cannot be listed as empty.
    try:
        names = fnmatch.filter(os.listdir(folder), _NAMES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted((folder / name for name in names), reverse=True)


def _unreadable(place: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{place}: {error.strerror}; run again once the disk works, and training resumes from there "
        "(if a checkpoint is lost for good, remove it: the one before is used)"
    )


def read_state(file: Path) -> dict[str, Any]:
    """Return what `write_state` wrote; a damaged file raises anything."""
    content = file.read_bytes()
    if not content.startswith(FORMAT):
        raise ValueError("not of this format")
    start = len(FORMAT) + _DIGEST_LINE
    payload = content[start:]
    if hashlib.sha256(payload).hexdigest().encode() + b"\n" != content[len(FORMAT) : start]:
        raise ValueError("its digest does not match")
    buffers = safetensors.numpy.load(payload)
    state = _unflatten(json.loads(buffers.pop("tree").tobytes()), buffers)
    assert isinstance(state, dict)
    return state


# A tree's leaves are JSON. Dicts, lists, tuples and tensors stand in it as {"dict": [[key, value], ..]}, {"list": [..]},
# {"tuple": [..]} and {"torch" or "numpy": buffer, "dtype": .., "shape": ..}.


def _flatten(value: Any, buffers: dict[str, np.ndarray], path: str) -> Any:
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, dict):
        for key in value:
            if not (key is None or isinstance(key, bool | int | float | str)):
                raise TypeError(
                    f"{path}: a checkpoint cannot contain a key like {key!r}; use text and numbers"
                )
        return {"dict": [[key, _flatten(item, buffers, f"{path}.{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flatten(item, buffers, f"{path}.{index}") for index, item in enumerate(value)]}
    name = str(len(buffers))
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        buffers[name] = np.frombuffer(np.ascontiguousarray(value).tobytes(), dtype=np.uint8)
        return {"numpy": name, "dtype": str(value.dtype), "shape": list(value.shape)}
    # A caller that passes a tensor has imported torch.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous()
        buffers[name] = plain.reshape(-1).view(torch.uint8).numpy()
        return {"torch": name, "dtype": str(plain.dtype).removeprefix("torch."), "shape": list(plain.shape)}
    raise TypeError(
        f"{path}: a checkpoint cannot contain a {type(value).__name__}; use dicts, lists, tuples, numbers, text and tensors"
    )


def _unflatten(tree: Any, buffers: dict[str, np.ndarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "dict" in tree:
        return {key: _unflatten(item, buffers) for key, item in tree["dict"]}
    if "list" in tree:
        return [_unflatten(item, buffers) for item in tree["list"]]
    if "tuple" in tree:
        return tuple(_unflatten(item, buffers) for item in tree["tuple"])
    if "numpy" in tree:
        return buffers[tree["numpy"]].copy().view(tree["dtype"]).reshape(tree["shape"])
    torch = importlib.import_module("torch")
    dtype = getattr(torch, tree["dtype"])
    raw = buffers[tree["torch"]].copy()
    return (torch.from_numpy(raw).view(dtype) if raw.size else torch.empty(0, dtype=dtype)).reshape(
        tree["shape"]
    )
