"""A trainer that prints, in each of the ways that programs print."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel

from ablate.contract import Context


class Settings(BaseModel, extra="forbid"):
    what: str = "words"
    shared: bool = False


def parts(settings: Settings) -> dict[str, Settings]:
    if not settings.shared:
        return {"all": settings}
    return {"common": Settings(what="words"), "own": Settings(what=settings.what)}


def train(settings: Settings, context: Context) -> dict[str, float]:
    globals()[settings.what](context)
    return {"dev/x": float(context.seed)}


def words(context: Context) -> None:
    print("printed")
    print("to stderr", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo shell; echo shell to stderr >&2"])
    ctypes.CDLL(None).puts(b"from C")


def unseen(context: Context) -> None:
    print("\x1b[31mred\x1b[0m \x1b]0;title\x07\ttab")
    sys.stderr.write("\r10 %\r20 %\r100 %\n")
    os.write(1, b"bytes \xff\x00 end\n")


def gigabytes(context: Context) -> None:
    print("the first line")
    for number in range(600_000):
        print(f"{number:06} {'x' * 43}")
    print("the last line", end="")


def held(context: Context) -> None:
    """Print more than a pipe holds, from C, while the interpreter's lock is held."""
    puts = ctypes.PyDLL(None).puts
    for _ in range(100):
        puts(b"y" * 10_000)


def error(context: Context) -> None:
    print("just before")
    raise RuntimeError("the trainer fell over")


def killed(context: Context) -> None:
    print("a line")
    print("half a li", end="", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def crash(context: Context) -> None:
    ctypes.string_at(0)


def crash_unseen(context: Context) -> None:
    """Crash while the process that writes the log gets no time, as on a busy machine; it goes on a second later."""
    children = [
        pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    (writer,) = (pid for pid in children if b"logwriter.py" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(writer), signal.SIGSTOP)
    # Without the worker's environment, it is not one of its leftovers.
    subprocess.Popen(["/bin/sh", "-c", f"sleep 1; kill -CONT {writer}"], env={}, start_new_session=True)
    crash(context)


def slow(context: Context) -> None:
    for step in range(1, 201):
        print(f"step {step}")
        time.sleep(0.05)
        context.checkpoint(step, saved)


def saved() -> dict[str, float]:
    print("saving")
    return {}


def seeded(context: Context) -> None:
    for _ in range(2000):
        print(f"seed {context.seed}")


def left_behind(context: Context) -> None:
    subprocess.Popen(["sleep", "5"])
    print("printed beside a child")
