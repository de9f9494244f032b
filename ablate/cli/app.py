"""The commands in the order of the help, and how errors become messages and exit codes."""

import errno
import io
import os
import sys
import threading

import typer

from ablate.cli import maintenance, outside, results, run, trial
from ablate.cli.printing import complain
from ablate.errors import AblateError
from ablate.runner.signals import catch

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
    maintenance.import_,
    maintenance.doctor,
    maintenance.schema,
)
_ELSEWHERE = "name a folder that you can write to (--home, --out), or ask its owner for access"
_SPACE = "free some disk space, then run the same command again"
HOW_TO_FIX = {  # by the error of the file system
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
    errno.ENOENT: _ELSEWHERE,
    errno.ENOTDIR: "a file is in the way; name another folder (--home, --out)",
    errno.EEXIST: "a file is in the way; name another folder (--home, --out)",
    errno.EISDIR: "a folder is in the way; move it or name another place (--home, --out)",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EIO: "check the disk",
}

app = typer.Typer(
    help="Which of my fine-tuning choices help, by how much, how sure am I, and what did it cost?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    # `import` is a word of Python.
    app.command(command.__name__.strip("_"))(command)


def main() -> None:
    """Run the command line; turn known errors into messages and an exit code."""
    from typer.exceptions import Abort, TyperException

    catch(lambda number, _: sys.exit(128 + number))
    sys.unraisablehook = _exit_all_the_same
    for stream in (sys.stdout, sys.stderr):
        # A locale may have no word for what is printed.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except AblateError as error:
        complain(*error.faults)
        code = error.exit_code
    except TyperException as error:
        complain(f"{error.format_message()} See: ablate {_command_typed()}--help")
        code = 2
    except Abort:
        code = 130
    except BrokenPipeError:
        # The reader left, e.g. `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except OSError as error:
        if error.errno not in HOW_TO_FIX:
            raise
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror}; {HOW_TO_FIX[error.errno]}")
        code = 1
    sys.exit(code)


def _exit_all_the_same(lost: "sys.UnraisableHookArgs") -> None:
    """Exit when Python ignores the exit that a signal asked for, since the signal came inside a finalizer."""
    if isinstance(lost.exc_value, SystemExit) and isinstance(lost.exc_value.code, int):
        # Not here: what is raised inside this hook is ignored too.
        again = threading.Timer(0.1, os.kill, (os.getpid(), lost.exc_value.code - 128))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _command_typed() -> str:
    named = [word for word in sys.argv[1:2] if not word.startswith("-")]
    return f"{named[0]} " if named else ""
