"""Ensures that a program, with everything it starts, ends when its worker does: `python -I -S guard.py LOCK PROGRAM ARGUMENT...`.

The worker holds the other end of stdin. A byte means: stop the program (SIGTERM to its process group). The end of the stream,
which also comes when the worker dies, means: kill everything. On Linux the guard adopts descendants that left the group, and
kills them as well; if the guard itself is killed, the kernel kills the program. While LOCK is held, no other guard starts a
program in its folder; in the end, LOCK contains the peak memory of the program or its largest descendant, in bytes.

The guard ends like the program: with its exit code, or by its signal."""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
# Those of runner/signals.py, which a script that imports nothing of the package cannot name.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
NOT_STARTED = 127
LOCK_POLL_S = 0.05
# A process stuck in the kernel, e.g. on a dead network disk, cannot be killed.
LONGEST_KILLING_S = 10.0


def main(lock: str, *command: str) -> None:
    """Run a command, and leave none of its processes behind."""
    # Batch systems signal every process, but the worker decides when its program stops.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    locked = _lock_folder(lock)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    program = _start(command)
    status = _wait(program, ended)
    _kill_all(program)
    _write_peak(locked)
    _end_like(status)


def _lock_folder(lock: str) -> int:
    """Wait until the guard of a worker that died has killed its program; return the lock's file, emptied."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            # Any other error: this file system has no locks.
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                break
        if select.select([0], [], [], LOCK_POLL_S)[0] and not os.read(0, 1):
            sys.exit(NOT_STARTED)
    os.ftruncate(file, 0)
    return file


def _write_peak(locked: int) -> None:
    """Note the peak memory here: to the worker it would be that of the largest program it ever had, or of the worker itself."""
    # On a full disk the report only lacks a number.
    with contextlib.suppress(OSError):
        os.write(locked, b"%d" % (1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))


def _start(command: tuple[str, ...]) -> int:
    """Return the program's process, which leads a session and group of its own."""
    guard = os.getpid()
    started, failed = os.pipe()
    program = os.fork()
    if program == 0:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(NOT_STARTED)
        # The program would inherit the ignored signals of Python and of this file.
        for number in (*STOPPING, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            # The program must not read the guard's stdin.
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(NOT_STARTED)
    os.close(failed)
    # The pipe closes when the program has started or failed to start; after that it can be signalled.
    os.read(started, 1)
    for stream in (started, 1, 2):
        os.close(stream)
    return program


def _wait(program: int, ended: int) -> int:
    """Return the program's wait status; SIGKILL's if the worker closed stdin or died."""
    poll = select.poll()
    for stream in (0, ended):
        poll.register(stream, select.POLLIN)
    while True:
        for stream, _ in poll.poll():
            if stream == ended:
                os.read(ended, 4096)
            elif os.read(0, 1):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program, signal.SIGTERM)
            else:
                return signal.SIGKILL
        # Includes adopted descendants.
        while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
            if reaped[0] == program:
                return reaped[1]


def _kill_all(group: int) -> None:
    """Kill the group, then all children, repeatedly: when a child dies, its children become ours."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    end = time.monotonic() + LONGEST_KILLING_S
    while time.monotonic() < end:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _children() -> list[int]:
    me, children = os.getpid(), []
    for name in filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            # The program's name, in parentheses, may contain any characters.
            if int(file.read().rpartition(b")")[2].split()[1]) == me:
                children.append(int(name))
    return children


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_like(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(*sys.argv[1:])
