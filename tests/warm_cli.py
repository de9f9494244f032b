"""The command line for tests: each command in a process of its own, forked from one that has loaded the packages already.

Loading them takes one to two seconds of CPU, and the tests run hundreds of commands. What a process reads when it starts (its
locale, Python's own variables) is tried by processes that start: `run` starts one where such a variable is given."""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

READ_AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "MKL_", "MPL")
LOADED = (
    "runner.run",
    "runner.plan",
    "runner.bundles",
    "runner.merging",
    "report.export",
    "report.report",
    "report.outside.analyze",
    "store.sampling",
)

# Below pytest's: a command that hangs must not answer the next test.
LIMIT_S = 280


class WarmCommandLine:
    """A process that forks one for each command."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def run(
        self, words: list[str], folder: Path, changes: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `ablate` with `words` in `folder` to its end, `changes` being those of the environment."""
        environment = os.environ | changes
        if any(name.startswith(READ_AT_START) for name in changes):
            return subprocess.run(cold(*words), cwd=folder, env=environment, capture_output=True, text=True)
        request = {"words": words, "folder": str(folder), "environment": environment}
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            descriptors = [stdout.fileno(), stderr.fileno()]
            socket.send_fds(self._connection, [json.dumps(request).encode()], descriptors)
            pid = int(self._connection.recv(100))
            self._connection.settimeout(LIMIT_S)
            try:
                code = int(self._connection.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(words, LIMIT_S) from None
            finally:
                self._connection.settimeout(None)
            printed = [os.pread(file.fileno(), 1 << 30, 0).decode() for file in (stdout, stderr)]
        return subprocess.CompletedProcess(words, code, printed[0], printed[1])

    def stop(self) -> None:
        """End the process."""
        self._connection.close()
        self._server.wait()


def cold(*words: object) -> list[str]:
    """Return the command that starts `ablate` in a new process."""
    return [sys.executable, "-m", "ablate", *map(str, words)]


def serve(connection: socket.socket) -> dict[str, Any]:
    """Answer each request with the process's id and its exit code; return a request in its forked process."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
        if not message:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            connection.close()
            for number, descriptor in enumerate(descriptors, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            request: dict[str, Any] = json.loads(message)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        # The one who asked may be gone.
        with contextlib.suppress(OSError):
            connection.send(str(pid).encode())
            connection.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


if __name__ == "__main__":
    for module in LOADED:
        importlib.import_module(f"ablate.{module}")
    gc.freeze()
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # As `python -m` does.
    sys.path[0] = asked["folder"]
    sys.argv = ["ablate", *asked["words"]]
    from ablate.cli import main

    main()
