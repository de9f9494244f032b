import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.runner.machine import joules_used
from ablate.runner.provenance import NO_CHECKOUT, commit_of, machine_facts


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU whose counter stands at 5 J, as `torch` and `pynvml` show it; the counter may be turned."""
    counter = SimpleNamespace(millijoules=5000)
    properties = {"cuda:1": SimpleNamespace(uuid="b2")}
    handles = {"GPU-b2": counter}
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handles.__getitem__,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: handle.millijoules,
    )
    cuda = SimpleNamespace(get_device_properties=properties.__getitem__)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return counter


def test_the_kernel_is_not_recorded() -> None:
    recorded = machine_facts("cpu")["platform"]
    assert recorded.startswith(f"{platform.system()}-{platform.machine()}")
    assert platform.release() not in recorded


def test_the_commit_is_that_of_the_folder(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)
    (inner := tmp_path / "inner").mkdir()
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert commit_of(inner) == {"git": head.strip()}


def test_a_folder_outside_every_checkout_says_so(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == {"git": NO_CHECKOUT}


def test_energy_is_what_this_gpu_has_used_since(gpu: SimpleNamespace) -> None:
    used = joules_used("cuda:1")
    gpu.millijoules += 2500
    assert used() == 2.5


def test_a_cpu_has_no_energy_counter() -> None:
    assert joules_used("cpu")() is None


def test_without_nvml_no_energy_is_recorded(gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert joules_used("cuda:1")() is None


def test_a_gpu_that_does_not_count_records_none(gpu: SimpleNamespace) -> None:
    del gpu.millijoules
    assert joules_used("cuda:1")() is None
