import contextlib
import errno
import hashlib
import json
import os
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from fixture_types import not_none

from ablate.errors import StoreError, TrialError
from ablate.runner.cadence import Cadence
from ablate.runner.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from ablate.runner.context import Owner, PartContext

STATE: dict[Any, Any] = {
    "step": 7,
    "loss": float("inf"),
    "names": ["a", None, True],
    "model": {
        "w": torch.arange(6.0).reshape(2, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.empty(0, 2),
    },
    "rng": {"torch": torch.get_rng_state(), "python": random.Random(3).getstate()},
    "order": np.arange(5, dtype=np.int32),
    3: "a key that is not text",
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a == b and type(a) is type(b)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 7, STATE)
    assert same(STATE, load_checkpoint(tmp_path))


def test_a_loaded_tensor_may_be_trained_on(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 7, STATE)
    weights = not_none(load_checkpoint(tmp_path))["model"]["w"]
    weights.add_(1)
    assert torch.equal(weights, STATE["model"]["w"] + 1)


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_the_one_before_is_kept_and_no_more(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step})
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"step-{step:012d}.checkpoint" for step in (2, 3)
    ]


def damages(content: bytes) -> Iterator[bytes]:
    """Flips all over the file, truncations, zeroed pages, an older format, and a pickle with code in it."""
    rng = random.Random(0)
    for _ in range(300):
        place = rng.randrange(len(content))
        yield content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    yield from (content[: int(len(content) * share)] for share in (0, 0.01, 0.5, 0.999))
    yield content[:512] + bytes(512) + content[1024:]
    yield content.replace(b"checkpoint 1", b"checkpoint 0")
    yield b"cos\nsystem\n(S'touch harm'\ntR."


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    save_checkpoint(tmp_path, 2, STATE)
    newest = tmp_path / f"step-{2:012d}.checkpoint"
    whole = newest.read_bytes()
    for damaged in damages(whole):
        newest.write_bytes(damaged)
        told: list[str] = []
        assert load_checkpoint(tmp_path, told.append) == {"step": 1}
        assert len(told) == 1
        assert "damaged checkpoint skipped" in told[0]


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no file more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_cannot_be_read_now_is_not_taken_for_damaged(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    with pytest.raises(StoreError, match="Too many open files; run again"), no_more_files():
        load_checkpoint(tmp_path)


def test_a_newest_one_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 2, {"step": 2})

    def failing(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(StoreError, match=r"step-0*2.checkpoint: Input/output error"):
        load_checkpoint(tmp_path)


def test_what_a_checkpoint_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.model\.0: a checkpoint cannot contain a object"):
        save_checkpoint(tmp_path, 1, {"model": [object()]})
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_would_not_come_back_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\.model: a checkpoint cannot contain a key like \(1, 2\)"):
        save_checkpoint(tmp_path, 1, {"model": {(1, 2): 3}})


def test_after_damage_two_whole_ones_are_kept_again(tmp_path: Path) -> None:
    for step in (1, 9):
        save_checkpoint(tmp_path, step, {"step": step})
    (tmp_path / f"step-{9:012d}.checkpoint").write_bytes(b"damaged")
    for step in (2, 3):
        save_checkpoint(tmp_path, step, {"step": step})
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"step-{step:012d}.checkpoint" for step in (2, 3)
    ]


def test_a_slow_save_makes_saves_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ablate.runner.context.time.monotonic", lambda: now[0])
    cadence = Cadence(interval_s=60)
    cadence.saved(took_s=3.0)
    now[0] = 99.0
    assert not cadence.is_due()  # 3 s are 3 % of 100 s
    now[0] = 100.0
    assert cadence.is_due()


@pytest.fixture
def context(tmp_path: Path) -> PartContext:
    return PartContext(Owner(), seed=1, device="cpu", workdir=tmp_path, cache=tmp_path, cadence=Cadence(60))


@pytest.mark.parametrize(
    ("clusters", "text"),
    [
        (None, "id,prediction,gold\na,1.0,0.0\nb,0.5,1.0\n"),
        ([3, "x,y"], 'id,prediction,gold,cluster\na,1.0,0.0,3\nb,0.5,1.0,"x,y"\n'),
    ],
)
def test_predictions_have_a_column_of_clusters_where_they_are_given(
    context: PartContext, clusters: Any, text: str
) -> None:
    context.predictions("dev", "qa", ["a", "b"], [1.0, 0.5], [0.0, 1.0], clusters)
    assert (context.workdir / "predictions" / "dev.qa.csv").read_text() == text


def test_a_file_of_the_trainer_where_predictions_belong_fails_the_trial_alone(context: PartContext) -> None:
    (context.workdir / "predictions").write_text("mine")
    with pytest.raises(TrialError, match="the trainer wrote a file of this name"):
        context.predictions("dev", "qa", ["a", "b"], [1.0, 0.5], [0.0, 1.0])


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_an_item_without_a_cluster_among_others_is_named(context: PartContext, blank: Any) -> None:
    with pytest.raises(TrialError, match="item 'b' has no cluster"):
        context.predictions("dev", "qa", ["a", "b"], [1.0, 0.5], [0.0, 1.0], ["1", blank])


@pytest.mark.parametrize(
    ("split", "task", "what"),
    [
        ("dev", "qa/boolq", "task 'qa/boolq'"),
        ("../dev", "qa", "split '../dev'"),
        ("dev", "q" * 300, "task 'qqq"),
    ],
)
def test_predictions_under_a_name_that_no_file_can_have_are_named(
    context: PartContext, split: str, task: str, what: str
) -> None:
    with pytest.raises(TrialError, match=f"the {what}"):
        context.predictions(split, task, ["a"], [1.0], [1.0])


class Noting(Owner):
    def __init__(self, notices: list[str]) -> None:
        self._notices = notices

    def notice(self, line: str) -> None:
        self._notices.append(line)


def context_in(folder: Path, notices: list[str]) -> PartContext:
    return PartContext(
        Noting(notices), seed=1, device="cpu", workdir=folder, cache=folder, cadence=Cadence(0.0)
    )


def test_a_checkpoint_of_another_part_is_passed_over(tmp_path: Path) -> None:
    notices: list[str] = []
    other, own = (context_in(tmp_path / name, notices) for name in ("abc-1", "def-1"))
    own.checkpoint(1, lambda: {"mine": 1})
    other.checkpoint(2, lambda: {"mine": 0})
    (other.workdir / "step-000000000002.checkpoint").rename(own.workdir / "step-000000000002.checkpoint")
    assert context_in(own.workdir, notices).restore() == {"mine": 1}
    assert "it belongs to 'abc-1', not to def-1" in notices[0]


NO_STATE = {"dict": [["step", 2], ["seconds", 1.5]]}
AGES_AGO = {"dict": [["step", -(10**400)], ["seconds", 1.5], ["state", None]]}
# NumPy parses the name of a type as Python.
ODD_TYPE = {"dict": [["step", {"numpy": "tree", "dtype": ", , ,", "shape": []}]]}


@pytest.mark.parametrize(
    "tree",
    [
        5,
        {"list": 3},
        {"dict": [[1]]},
        {"torch": "0"},
        {"what": 1},
        {"numpy": "x"},
        None,
        {"dict": []},
        NO_STATE,
        AGES_AGO,
        ODD_TYPE,
    ],
)
def test_a_tree_of_another_form_is_passed_over(tmp_path: Path, tree: Any) -> None:
    context_in(tmp_path, []).checkpoint(1, lambda: {"mine": 1})
    buffers = {"tree": np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)}
    payload = safetensors.numpy.save(buffers)
    digest = hashlib.sha256(payload).hexdigest().encode() + b"\n"
    (tmp_path / "step-000000000002.checkpoint").write_bytes(FORMAT + digest + payload)
    notices: list[str] = []
    assert context_in(tmp_path, notices).restore() == {"mine": 1}
    assert len(notices) == 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_passed_over_and_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    context_in(tmp_path, []).checkpoint(1, lambda: {"mine": 1})
    make(tmp_path / "step-000000000002.checkpoint")
    again = context_in(tmp_path, [])
    assert again.restore() == {"mine": 1}
    again.checkpoint(2, lambda: {"mine": 2})
    assert context_in(tmp_path, []).restore() == {"mine": 2}
