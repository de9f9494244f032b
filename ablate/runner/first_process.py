"""The first process of a container, which has duties that ordinary programs do not fulfil.

The kernel hands it every orphan (a zombie until it is reaped), and drops signals that the first process does not catch. Without
this, a trainer's leftovers fill the process table, and `docker stop` takes ten seconds to kill most commands."""

import os
import signal

_FAULTS = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV}
_PASSED_ON = signal.valid_signals() - _FAULTS - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}


def step_aside() -> None:
    """As process 1, fork and return in the child. The parent passes
    signals on to it, reaps orphans, and exits as the child does."""
    if os.getpid() != 1:
        return
    # Block signals until there are handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    command = os.fork()
    if command:
        _serve(command)
    # A separate group: in a common one, a terminal's Ctrl-C would reach the child twice, the second time through process 1.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def _serve(command: int) -> None:
    if os.isatty(0) and os.getpgid(command) != command:
        os.setpgid(command, command)
    if os.isatty(0):
        os.tcsetpgrp(0, command)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(command, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    pid, status = os.wait()
    while pid != command:
        pid, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)
