"""The commands in the order of the help, and how errors become messages and exit codes."""

import codecs
import errno
import io
import os
import sys
import threading
from typing import Annotated, TextIO

import typer

from ablate import __version__
from ablate.cli import maintenance, outside, results, run, trial
from ablate.cli.printing import complain
from ablate.errors import AblateError
from ablate.runner.first_process import step_aside
from ablate.runner.signals import catch
from ablate.text import plain

COMMANDS = (
    run.init,
    run.plan,
    run.check,
    run.run,
    run.worker,
    results.status,
    trial.show,
    trial.logs,
    trial.reproduce,
    results.report,
    run.test,
    results.export,
    outside.analyze,
    outside.compare,
    results.dashboard,
    maintenance.merge,
    maintenance.delete,
    maintenance.upgrade,
    maintenance.import_,
    maintenance.doctor,
    maintenance.schema,
)
_ELSEWHERE = "name a folder that you can write to (--home, --out), or ask its owner for access"
_SPACE = "free some disk space, then run the same command again"
HOW_TO_FIX = {  # by errno
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENOENT: _ELSEWHERE,
    errno.ENOTDIR: "a file is in the way; name another folder (--home, --out)",
    errno.EEXIST: "a file is in the way; name another folder (--home, --out)",
    errno.ELOOP: "a link is in the way; remove it",
    errno.EISDIR: "a folder is in the way; move it or name another place (--home, --out)",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EIO: "check the disk",
}

app = typer.Typer(
    help="Which of my training choices help, by how much, how sure am I, and what did it cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    # `import` is a keyword of Python.
    app.command(command.__name__.strip("_"))(command)


@app.callback(invoke_without_command=True)
def _without_command(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"ablate {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; turn known errors into messages and an exit code."""
    from typer.exceptions import Abort, TyperException

    step_aside()
    _open_closed_streams()
    catch(lambda number, _: sys.exit(128 + number))
    sys.unraisablehook = _exit_after_all
    codecs.register_error("plain", plain)
    for stream in (sys.stdout, sys.stderr):
        # The locale's encoding may lack characters of the output.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except AblateError as error:
        complain(*error.faults)
        code = error.exit_code
    except TyperException as error:
        complain(f"{error.format_message()} See: ablate {_command_typed()}--help")
        code = 2
    except Abort:
        code = 130
    except BrokenPipeError:
        # The reader closed the pipe, e.g. `| head`.
        code = 0
    except OSError as error:
        if error.errno not in HOW_TO_FIX:
            raise
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror}; {HOW_TO_FIX[error.errno]}")
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if not _is_flushed(stream):
            # Python would flush it again, fail, and change the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _open_closed_streams() -> None:
    """Reopen standard streams that the caller closed (`>&-`).

    Otherwise the next opened file, such as a database, would get the descriptor of stdout, and output would go into it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() takes the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def _is_flushed(stream: TextIO) -> bool:
    try:
        stream.flush()
    except OSError:
        return False
    return True


def _exit_after_all(lost: "sys.UnraisableHookArgs") -> None:
    """Exit after all if Python ignored a SystemExit because the signal arrived during a finalizer."""
    if isinstance(lost.exc_value, SystemExit) and isinstance(lost.exc_value.code, int):
        # An exception raised here would be ignored too, so send the signal again.
        again = threading.Timer(0.1, os.kill, (os.getpid(), lost.exc_value.code - 128))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _command_typed() -> str:
    named = [word for word in sys.argv[1:2] if word in {command.name for command in app.registered_commands}]
    return f"{named[0]} " if named else ""
