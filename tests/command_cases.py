"""Cases of hostile input: each is written into an empty folder, and the real command says what it thinks of it.

A file `tests/bad_inputs/*/*.case` is YAML. Its keys hold for all of its `cases`, each of which may replace them; `$name` in any
text is replaced by that name in the case's `with`.

    run       the command line after `ablate`, as a shell would split it, or a list of words; several commands: a list of lists
    files     name -> text, `{hex: 00ff}` or `{repeat: text, times: n}`
    make      name -> fifo, folder, or `link TARGET`
    given     finished: runs/walk is a study that has run, walk.yaml its file
    sql       statements that are applied to its database
    env       variables of the environment
    process   true: the command needs a process of its own (its environment, its locale)
    exit      the exit code, or a list of those of all commands [2]
    says      texts that it prints
    never     texts that it does not print
    traceback true: it prints the trainer's own traceback
    leaves    names in the folder afterwards, beside those from before [none, if the exit code is 2]

Run this file with the names of cases to see what the command says today."""

import contextlib
import importlib
import io
import os
import shlex
import shutil
import signal
import sqlite3
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ruamel.yaml import YAML

from ablate.cli.app import main
from ablate.runner.engines.registry import ENGINES, Entry

FOLDER = Path(__file__).parent / "bad_inputs"
KEYS = frozenset(
    [
        "run",
        "files",
        "make",
        "given",
        "sql",
        "env",
        "process",
        "exit",
        "says",
        "never",
        "leaves",
        "with",
        "slow",
        "traceback",
    ]
)
LIMIT_S = 60.0


@dataclass(frozen=True)
class Case:
    """One hostile input and the right answer to it."""

    name: str
    keys: Mapping[str, Any]

    @property
    def codes(self) -> tuple[int, ...]:
        """The right exit codes."""
        expected = self.keys.get("exit", 2)
        return tuple(map(int, expected if isinstance(expected, list) else [expected]))

    @property
    def slow(self) -> bool:
        return bool(self.keys.get("slow"))


@dataclass(frozen=True)
class Answer:
    """What the command did."""

    codes: tuple[int, ...]
    out: str
    err: str
    left: frozenset[str]
    cpu_s: float

    @property
    def text(self) -> str:
        return self.out + self.err


def read_cases(folder: Path = FOLDER) -> list[Case]:
    """Return the cases of all files in a folder."""
    return [case for file in sorted(folder.glob("**/*.case")) for case in cases_of(file)]


def cases_of(file: Path) -> list[Case]:
    """Return the cases of one file."""
    # Every scalar is text: 1e999 is what it looks like.
    common = dict(YAML(typ="base").load(file.read_text(encoding="utf-8")))
    several = common.pop("cases", [{}])
    cases = []
    for number, own in enumerate(several):
        keys = {**common, **own}
        assert set(keys) <= KEYS, f"{file}: {sorted(set(keys) - KEYS)}"
        names = {name: _bytes(content).decode() for name, content in keys.get("with", {}).items()}
        filled = _filled({key: keys[key] for key in keys if key != "with"}, names)
        cases.append(Case(f"{file.parent.name}/{file.stem}-{number + 1}", filled))
    return cases


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return string.Template(value).safe_substitute(names) if names else value
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    if isinstance(value, dict):
        return {_filled(key, names): _filled(item, names) for key, item in value.items()}
    return value


def answer(case: Case, folder: Path, finished: Path | None = None) -> Answer:
    """Set a case up in an empty folder and run its command there.

    Args:
        case: what to try.
        folder: where.
        finished: a folder with `walk.yaml`, `walk.py` and `runs/walk`; needed by cases with `given`.
    """
    keys = case.keys
    if keys.get("given"):
        assert finished is not None
        shutil.copytree(finished, folder, dirs_exist_ok=True)
    for name, content in keys.get("files", {}).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_bytes(content))
    for name, kind in keys.get("make", {}).items():
        _make(folder / name, kind)
    if statements := keys.get("sql"):
        with contextlib.closing(sqlite3.connect(folder / "runs/walk/study.db")) as database, database:
            database.executescript(";\n".join(statements))
    there = _names(folder)
    run = keys["run"]
    commands = [run] if isinstance(run, str) or not isinstance(run[0], list) else run
    words = [
        shlex.split(command) if isinstance(command, str) else list(map(str, command)) for command in commands
    ]
    before = time.process_time() + sum(os.times()[2:4])
    results = []
    for command in words:
        # `ablate worker` starts itself anew.
        how = _in_a_process if keys.get("process") or command[0] == "worker" else _in_this_process
        results.append(how(command, folder, keys.get("env", {})))
    codes, outs, errs = zip(*results, strict=True)
    cpu_s = time.process_time() + sum(os.times()[2:4]) - before
    return Answer(codes, "".join(outs), "".join(errs), frozenset(_names(folder) - there), cpu_s)


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    return (
        bytes.fromhex(content["hex"])
        if "hex" in content
        else content["repeat"].encode() * int(content["times"])
    )


def _make(place: Path, kind: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_file() and not place.is_symlink():
        place.unlink()
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir(parents=True)
    else:
        place.symlink_to(kind.removeprefix("link "))


def _names(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name != "__pycache__"}


def _in_a_process(words: list[str], folder: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ablate", *words],
        cwd=folder,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
    )
    return (
        done.returncode,
        done.stdout.decode(errors="backslashreplace"),
        done.stderr.decode(errors="backslashreplace"),
    )


def _in_this_process(words: list[str], folder: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with _as_if_new(folder, env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with mock.patch.object(sys, "argv", ["ablate", *words]):
                main()
        except SystemExit as end:
            code = end.code
    assert code is None or isinstance(code, int)
    return code or 0, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _as_if_new(folder: Path, env: Mapping[str, str]) -> Iterator[None]:
    """Put back afterwards what a command changes of its process: where it is, what it has imported, its signals."""
    # Other tests may have imported trainers of the same names.
    hidden = {
        file.stem: sys.modules.pop(file.stem) for file in folder.glob("*.py") if file.stem in sys.modules
    }
    here, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    hook, handlers = sys.unraisablehook, {n: signal.getsignal(n) for n in signal.valid_signals()}
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, env), mock.patch.dict(ENGINES, thread=Entry("thread_engine")):
            yield
    finally:
        os.chdir(here)
        sys.path[:] = path
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            with contextlib.suppress(OSError, ValueError, TypeError):
                signal.signal(number, handler)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder.parent)):
                del sys.modules[name]
        sys.modules.update(hidden)
        importlib.invalidate_caches()


def finished_study(folder: Path) -> Path:
    """Run the walk study in a folder and return it."""
    from conftest import write_walk

    write_walk(folder)
    code, _, err = _in_this_process(["run", "walk.yaml", "--engine", "thread"], folder, {})
    assert code == 0, err
    return folder


def _show(names: list[str]) -> None:
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("it hangs")))
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        finished = finished_study(Path(scratch))
        for case in read_cases():
            if not any(case.name.startswith(name) for name in names):
                continue
            with tempfile.TemporaryDirectory() as folder:
                print(f"=== {case.name}: {case.keys['run']}", flush=True)
                signal.alarm(25)
                try:
                    got = answer(case, Path(folder), finished)
                except Exception as error:
                    print(f"!!! {type(error).__name__}: {str(error)[:300]}")
                    import traceback

                    print("".join(traceback.format_exc().splitlines(True)[-7:]))
                    continue
                print(f"    exit {got.codes}, {got.cpu_s:.1f} s, leaves {sorted(got.left)}")
                for line in got.text.splitlines()[-5:]:
                    print("   |", line[:260])


if __name__ == "__main__":
    _show(sys.argv[1:])
