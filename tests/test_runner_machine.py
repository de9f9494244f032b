import pytest
from fixture_types import Ablate, WalkStudy

from ablate.runner.machine import worker_environment, workers_that_fit

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "cores", "gpus", "workers"),
    [
        ({"host": (1 * GIB, 32 * GIB)}, 8, 0, 4),  # the cores decide: two threads each
        ({"host": (10 * GIB, 32 * GIB)}, 8, 0, 2),  # the memory does
        ({"host": (40 * GIB, 32 * GIB)}, 8, 0, 1),  # one runs whatever was measured
        ({"host": (1 * GIB, 32 * GIB)}, 1, 0, 1),
        ({"host": (3 * GIB, 32 * GIB), "cuda:0": (5 * GIB, 24 * GIB)}, 8, 1, 4),  # the GPU
        ({"host": (3 * GIB, 64 * GIB), "cuda:0": (5 * GIB, 24 * GIB)}, 64, 2, 8),  # two of them
        ({"host": (8 * GIB, 32 * GIB), "cuda:0": (5 * GIB, 24 * GIB)}, 8, 1, 3),  # the host's memory
        ({"host": (1 * GIB, 64 * GIB), "cuda:0": (1 * GIB, 80 * GIB)}, 8, 1, 8),  # a core for each
    ],
)
def test_as_many_workers_as_every_resource_takes(
    memory: dict[str, tuple[int, int]], cores: int, gpus: int, workers: int
) -> None:
    assert workers_that_fit(memory, cores, gpus) == workers


def test_workers_take_turns_at_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    given = [worker_environment(3, index)["CUDA_VISIBLE_DEVICES"] for index in range(3)]
    assert given == ["2", "5", "2"]


def test_a_lone_worker_sees_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert worker_environment(1)["CUDA_VISIBLE_DEVICES"] == "2,5"


def test_workers_that_need_several_gpus_share_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    given = [worker_environment(2, index, gpus_each=2)["CUDA_VISIBLE_DEVICES"] for index in range(2)]
    assert given == ["0,1", "2,3"]


@pytest.mark.parametrize("typed", ["0", "-1", "many", "1.5"])
def test_a_number_of_workers_is_a_number_or_auto(typed: str, ablate: Ablate, walk_study: WalkStudy) -> None:
    done = ablate("run", walk_study(), "--workers", typed)
    assert done.returncode == 2
    assert f"--workers: found '{typed}'; write a number, 1 or more, or auto" in done.stderr


def test_auto_needs_a_trainer_that_measures(ablate: Ablate, walk_study: WalkStudy) -> None:
    done = ablate("run", walk_study(), "--workers", "auto")
    assert (done.returncode, done.stderr) == (
        2,
        "--workers: auto needs `measure`, which walk does not have; give a number\n",
    )
