"""Write a study that runs a user's script with `ablate.command`, from the options that its source declares."""

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.errors import BadInput
from ablate.spec.designs import KINDS
from ablate.spec.file_text import read_text
from ablate.spec.scalars import resolve
from ablate.spec.script_options import FILL_IN, Option, metric_of, options_of
from ablate.text import one_line, printable, sounds_like_a_loss, suggestion

NO_SEED = "     # no option for the seed was found: let the script read ABLATE_SEED, or all seeds give the same result"


def study_of_script(name: str, script: Path) -> tuple[str, list[str]]:
    """Return a study called `name` that runs `script`, and the settings that the user has to fill in.

    Raises:
        BadInput: it is not Python, or declares no options.
    """
    if not script.exists():
        scripts = sorted(file.name for file in script.parent.glob("*.py"))
        raise BadInput(f"{script}: no such file; {suggestion(script.name, scripts)}")
    try:
        tree = ast.parse(read_text(script, "the script"))
    except SyntaxError as error:
        raise BadInput(f"{script}:{error.lineno}: not Python ({error.msg}); give a Python script") from error
    # Python's parser gives up on deep nesting.
    except (MemoryError, RecursionError, ValueError) as error:
        raise BadInput(
            f"{script}: cannot be read as Python ({type(error).__name__}); give a Python script"
        ) from error
    try:
        options = list({option.name: option for option in options_of(tree)}.values())
    except BadInput as error:
        raise BadInput(f"--script: {script}, {error}") from error
    if not options:
        raise BadInput(
            f"--script: {script} declares no options with argparse, click or typer; see docs/how_to/own_script.md for others"
        )
    factor, levels = _factor(options)
    if factor is None:
        raise BadInput(
            f"--script: {script} declares no option that a study could vary; see docs/how_to/own_script.md for others"
        )
    first = next(iter(levels))
    seeded = any(option.of_trial == "{seed}" for option in options)
    metric = metric_of(tree)
    goal = "minimize" if sounds_like_a_loss(metric) else "maximize"
    lines = [
        f"# {script} as a study: which of its options help, by how much, how sure are we?",
        "#",
        f"#   ablate plan {name}.yaml     cells, trials; trains nothing",
        f"#   ablate run {name}.yaml      trains what has no result yet; the same command resumes",
        f"#   ablate report {name}        writes tables and plots to reports/{name}/",
        "",
        f"study: {json.dumps(name)}",
        f"question: {json.dumps(f'Which options of {script.name} help, and by how much?')}     # opens the report",
        "trainer: ablate.command",
        "settings:",
        f"  command: {_command(script, options, factor)}",
        *(f"  {line}" for option in options if option is not factor for line in _setting(option)),
        "factors:",
        f"  {_key(factor.key)}: {_flow({'levels': levels} if factor.on else levels)}",
        f"baseline: {_flow({factor.key: first})}",
        f"design: one_at_a_time               # {' | '.join(KINDS)}",
        "seeds: [11, 22, 33]" + ("" if seeded else NO_SEED),
        f"metric: {{name: {json.dumps(metric)}, goal: {goal}}}     # its name in the script's metrics.json or output",
        "# Add smallest_effect to the metric: the smallest difference that matters. It cannot be set once there are results.",
    ]
    fill_in = [
        option.name
        for option in options
        if FILL_IN in (levels if option is factor else _listed(option.value))
    ]
    return "\n".join(lines) + "\n", fill_in


def _factor(options: list[Option]) -> tuple[Option | None, Any]:
    """Return an option to vary and its levels, the default first: one with choices, else a number, else a flag, else any."""
    usable = [option for option in options if option.is_factor and not option.on]
    for option in usable:
        if len(option.choices) > 1:
            others = [choice for choice in option.choices if choice != option.default]
            return option, others if option.default is None else [option.default, *others]
    numbers = [option for option in usable if option.is_number and option.default]
    # Floats before integers.
    numbers.sort(key=lambda option: not isinstance(option.default, float))
    for option in numbers:
        is_float = isinstance(option.default, float)
        return option, [
            option.default,
            float(f"{option.default / 10:.6g}") if is_float else option.default * 2,
        ]
    for option in options:
        if option.on and option.is_factor:
            return option, _of_flag(option)
    for option in usable:
        return option, [FILL_IN, f"{FILL_IN}_TOO"] if option.default is None else [option.default, FILL_IN]
    return None, []


def _of_flag(option: Option) -> dict[str, Any]:
    """Return the levels of a flag, the default first."""
    levels = {"off": {option.key: option.off}, "on": {option.key: option.on}}
    is_on = option.off is not None and option.default
    return dict(reversed(levels.items())) if is_on else levels


def _command(script: Path, options: list[Option], factor: Option) -> str:
    words = [
        "python" if shutil.which("python") else "python3",
        str(script).replace("{", "{{").replace("}", "}}"),
    ]
    for option in sorted(options, key=lambda option: not option.is_positional):
        is_passed = option is factor or option.value is not None
        if is_passed and (not option.is_in_args or option.of_trial in ("{seed}", "{device}")):
            words += [] if option.is_positional or option.on else [option.written]
            words += option.value if option.count > 1 else [option.of_trial or f"{{{option.key}}}"]
    return _flow([*words, "{args}"])


def _setting(option: Option) -> Iterator[str]:
    """Yield the lines of an option that does not vary."""
    about = f"     # {printable(one_line(option.help))}" if option.help else ""
    if option.on:
        levels = _flow({"levels": _of_flag(option)})
        yield f"# a flag; to vary it, put {_flow(f'{{{option.key}}}')} into the command, and this line into factors:"
        yield f"#   {_key(option.key)}: {levels}{about}"
    elif option.value is None:
        why = f"     # left out: {option.why_none}" if option.why_none else about
        yield f"# {_key(option.key)}: ...{why or '     # left out: it has no default'}"
    elif option.is_in_args or (not option.of_trial and option.count == 1):
        yield f"{_key(option.key)}: {_flow(option.value)}{about}"


def _key(name: str) -> str:
    try:
        is_plain = name.replace("-", "").replace("_", "").isalnum() and isinstance(resolve(name), str)
    # A number that YAML cannot hold.
    except ValueError:
        is_plain = False
    return name if is_plain else json.dumps(name)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flow(value: Any) -> str:
    """Return a value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
