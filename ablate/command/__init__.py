"""`trainer: ablate.command`: use any program as a trainer. What a
program receives and writes is described in docs/how_to/own_script.md.

Uses only the contract, like any user's trainer."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ablate.command.curves import Curves
from ablate.command.files import json_text, yaml_text
from ablate.command.interpreter import versions_in
from ablate.command.program import Program
from ablate.command.results import read_metrics, read_predictions, remove_results
from ablate.command.settings import Settings, Trial
from ablate.contract import Context, Stopped
from ablate.errors import BadSetting
from ablate.files import write_file

__all__ = ["Settings", "train", "check", "gpus", "sources"]


def gpus(settings: Settings) -> int:
    """Return how many GPUs the program is given."""
    return settings.gpus


def check(settings: Settings) -> None:
    """Refuse a command whose program or Python script does not exist.

    Raises:
        BadSetting: the program or the script does not exist.
    """
    program, *rest = settings.arguments(Trial())
    if os.sep in program:
        if what := _why_not_executable(program):
            raise BadSetting(
                "command", f"the program {program!r} {what} (paths are relative to the study file)"
            )
    elif shutil.which(program) is None:
        raise BadSetting("command", f"no program {program!r} on the PATH{_instead_of(program)}")
    script = next((word for word in rest if not word.startswith("-")), "")
    is_python = os.path.basename(program).startswith("python")
    if is_python and script.endswith(".py") and "-m" not in rest and not os.path.isfile(script):
        raise BadSetting("command", f"no script {script!r} (paths are relative to the study file)")


def sources(settings: Settings) -> list[Path]:
    """Return the files that the command names, including `--option=file`
    and `-m module`; the program itself only if its path is relative."""
    program, *rest = settings.arguments(Trial(workdir=Path(os.devnull)))
    files = [Path(word.rpartition("=")[2]) for word in rest]
    if os.sep in program and not os.path.isabs(program):
        files.append(Path(program))
    if "-m" in rest[:-1]:
        module = Path(*rest[rest.index("-m") + 1].split("."))
        files += [module.with_suffix(".py"), module / "__main__.py"]
    return [file for file in files if _is_file(file)]


def _is_file(path: Path) -> bool:
    # Any text may be an argument: OSError is raised for one that is too long for a path.
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _why_not_executable(program: str) -> str:
    """Return why a program cannot be started; "" if it can."""
    if not os.path.exists(program):
        return "does not exist"
    if not os.path.isfile(program):
        return "is not a file"
    if not os.access(program, os.X_OK):
        return "cannot be executed; try chmod +x"
    try:
        with open(program, "rb") as file:
            first = file.readline(1000)
    # It may be executable without being readable.
    except OSError:
        return ""
    is_script_of_windows = first.startswith(b"#!") and first.endswith(b"\r\n")
    return (
        "has Windows line ends (CR LF), so its #! line names no program; save it with LF"
        if is_script_of_windows
        else ""
    )


def _instead_of(program: str) -> str:
    if program == "python" and shutil.which("python3"):
        return "; write python3, or activate the environment that has it"
    if os.path.isfile(program):
        return f"; write ./{program} for the file next to the study"
    return "; install it, or write its path"


def train(settings: Settings, context: Context) -> Mapping[str, float]:
    """Run the program to its end and return its metrics.

    Raises:
        TrialError: the program failed, or left no metrics.
        Stopped, Pruned: as in the contract, after the program has been stopped.
    """
    workdir = context.workdir.resolve()
    remove_results(workdir)
    trial = Trial(context.seed, context.device, workdir)
    values = settings.values_for(trial)
    write_file(trial.config, json_text(values).encode())
    write_file(trial.config_yaml, yaml_text(values).encode())
    curves = Curves(workdir, context)
    arguments = settings.arguments(trial)
    if versions := versions_in(arguments[0], os.environ.get("PATH", "")):
        context.facts["program"] = versions
    with Program(
        arguments,
        _environment(trial, context, settings.gpus),
        workdir,
        settings.grace_seconds,
    ) as program:
        stopped = False
        try:
            while program.is_running():
                program.listen()
                if context.stopping():
                    raise Stopped
                curves.follow(program.printed())
        # Raised above, or in `curves.follow` if the stop was requested in between.
        except Stopped:
            stopped = program.is_running()
            program.stop()
        with contextlib.suppress(Stopped):
            curves.follow(program.printed(), to_the_end=True)
    # A shutdown of the machine signals the program too; dying of that signal is not a failure.
    if stopped or (context.stopping() and program.has_failed):
        # Saved after the program has ended, so that its last seconds of training are counted.
        curves.save()
        raise Stopped
    program.raise_failure()
    # The worker's own peak does not include its programs.
    context.facts["peak_memory_bytes"] = program.peak_memory_bytes
    metrics = read_metrics(workdir, curves.last_numbers)
    for (split, task), columns in read_predictions(workdir).items():
        context.predictions(split, task, **columns)
    return metrics


def _environment(trial: Trial, context: Context, gpus: int) -> dict[str, str]:
    environment = {
        **os.environ,
        "ABLATE_SEED": str(trial.seed),
        "ABLATE_WORKDIR": str(trial.workdir),
        "ABLATE_SETTINGS": str(trial.config),
        "ABLATE_ATTEMPT": str(context.attempt),
        # Otherwise Python buffers what it prints into a pipe, and points and results arrive late or not at all.
        "PYTHONUNBUFFERED": "1",
    }
    # The URL may contain a password.
    environment.pop("ABLATE_STORAGE", None)
    if context.gpus or not gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(context.gpus)
    return environment
