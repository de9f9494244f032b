"""What SECURITY.md says: each of its lines names a test, here or elsewhere."""

import ast
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_types import Ablate, WalkStudy
from tracing import needs_strace, traced
from warm_cli import cold

from ablate.files import new_folder, write_file
from ablate.runner.dashboard import serve_dashboard
from ablate.store.places import place_of

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "ablate").rglob("*.py"))
UNPICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    tests = "\n".join(file.read_text() for file in ROOT.glob("tests/test_*.py"))
    assert len(named) >= 18
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_other_files_follow_the_umask(walk_study: WalkStudy, tmp_path: Path) -> None:
    run = cold("run", walk_study(), "--limit", "1")
    subprocess.run(run, cwd=tmp_path, umask=0o077, check=True, capture_output=True)
    written = [*(tmp_path / "runs").rglob("*")]
    assert len(written) > 10
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_a_planted_symlink_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    write_file(tmp_path / "link", b"ours")
    assert victim.read_text() == "precious"
    target.mkdir()
    (tmp_path / "other").symlink_to(target)
    with new_folder(tmp_path / "other") as folder:
        (folder / "file").write_text("ours")
    assert list(target.iterdir()) == []


def test_a_secret_in_the_environment_is_recorded_nowhere(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    secret = "canary-5d41402abc4b2a76"
    assert (
        ablate("run", walk_study(), "--limit", "1", HF_TOKEN=secret, AWS_SESSION_TOKEN=secret).returncode == 0
    )
    assert ablate("report", "walk", HF_TOKEN=secret).returncode == 0
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) > 10
    assert [file for file in written if secret.encode() in file.read_bytes()] == []


@needs_strace
def test_a_run_neither_listens_nor_connects(walk_study: WalkStudy, tmp_path: Path) -> None:
    command = cold("run", walk_study(), "--limit", "1")
    calls = traced(tmp_path / "trace.txt", *command, calls="execve,listen,bind,connect")
    assert sum("execve" in call for call in calls) > 1  # supervisor and worker are both watched
    assert [call for call in calls if "AF_UNIX" not in call and "execve" not in call] == []


def test_the_dashboard_is_served_on_loopback_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    stand_in = types.ModuleType("optuna_dashboard")
    stand_in.__dict__["run_server"] = lambda url, host, port: served.append((host, port))
    monkeypatch.setitem(sys.modules, "optuna_dashboard", stand_in)
    serve_dashboard(place_of("walk", tmp_path), 8080)
    assert served == [("127.0.0.1", 8080)]


def test_our_code_unpickles_nothing_and_starts_no_shell() -> None:
    found = {f"{file.relative_to(ROOT)}: {what}" for file in MODULES for what in dangers(file)}
    assert found == set()


def dangers(file: Path) -> Iterator[str]:
    """Yield what could run data as code."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLING)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLING:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("eval", "exec", "compile", "os.system", "os.popen", "torch.load", "yaml.load"):
                yield called
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if keywords.get("shell", "False") != "False" or keywords.get("allow_pickle", "False") != "False":
                yield ast.unparse(node)


def test_the_search_for_dangers_finds_them(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(
        "import pickle\nfrom dill import loads\neval('1')\nrun('x', shell=True)\ntorch.load('f')\n"
    )
    assert len(list(dangers(file))) == 5


def test_no_code_of_a_hub_is_trusted() -> None:
    texts = [file.read_text(encoding="utf-8") for file in MODULES]
    said = [value for text in texts for value in re.findall(r"trust_remote_code=(\w+)", text)]
    assert said
    assert set(said) == {"False"}
