"""Write a study that runs a user's script, from the options that
its source declares. The script is read, never run or imported.

Understands argparse (`add_argument`), click (`@click.option`) and typer (a command's parameters)."""

import ast
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ablate.errors import BadInput
from ablate.spec.designs import KINDS
from ablate.spec.file_text import read_text
from ablate.spec.scalars import resolve
from ablate.text import one_line, printable, sounds_like_a_loss, suggestion

SEEDS = ("seed", "random_seed", "random_state")
FOLDERS = ("output_dir", "out_dir", "outdir", "output", "save_dir", "workdir", "checkpoint_dir")
FILL_IN = "FILL_IN"
# Name of a call -> whether it declares a positional argument.
_CALLS = {"add_argument": False, "option": False, "argument": True}


@dataclass(frozen=True)
class Option:
    """An option of a script."""

    name: str  # as typed on the command line, without the leading dashes
    default: Any = None
    choices: tuple[Any, ...] = ()
    is_flag: bool = False
    is_positional: bool = False
    is_required: bool = False
    help: str = ""

    @property
    def plain(self) -> str:
        """The name as a Python identifier."""
        return self.name.replace("-", "_")


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
    options = list({option.name: option for option in _options(tree)}.values())
    if not options:
        raise BadInput(
            f"--script: {script} declares no options with argparse, click or typer; see docs/how_to/own_script.md for others"
        )
    varied = _levels(options)
    baseline = {factor: levels[0] for factor, levels in varied.items()}
    metric = _metric(tree)
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
        f"  command: {_command(script, options)}",
        *(f"  {line}" for option in options if option.name not in varied for line in _setting(option)),
        "factors:",
        *(f"  {_key(factor)}: {_flow(levels)}" for factor, levels in varied.items()),
        f"baseline: {_flow(baseline)}",
        f"design: one_at_a_time               # {' | '.join(KINDS)}",
        "seeds: [11, 22, 33]",
        f"metric: {{name: {json.dumps(metric)}, goal: {goal}}}     # its name in the script's metrics.json or output",
        "# Add smallest_effect to the metric: the smallest difference that matters. It cannot be set once there are results.",
    ]
    fill_in = [option.name for option in options if _value(option) == FILL_IN and not option.is_flag]
    return "\n".join(lines) + "\n", fill_in


def _options(tree: ast.Module) -> Iterator[Option]:
    """Yield the options that the source declares, from top to bottom."""
    run = {getattr(node.args[0], "id", "") for node in ast.walk(tree) if _is_call(node, "run") and node.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in _CALLS and node.args:
            if option := _declared(node, _CALLS[_called(node)]):
                yield option
        elif isinstance(node, ast.FunctionDef) and (node.name in run or _is_typer_command(node)):
            yield from _parameters(node)


def _declared(call: ast.Call, is_positional: bool) -> Option | None:
    """Return the option of an argparse or click call."""
    names = [literal for argument in call.args if isinstance(literal := _literal(argument), str)]
    keywords = {word.arg: word.value for word in call.keywords if word.arg}
    long = [name for name in names if name.startswith("--")]
    if not names or (not long and names[0].startswith("-")):
        return None
    name, switch, _ = (long or names)[0].partition("/")
    action = _literal(keywords.get("action"))
    boolean = "BooleanOptionalAction" in ast.dump(keywords.get("action", ast.Pass()))
    kinds = keywords.get("type")
    choices = _literal(keywords.get("choices")) or (
        _literal(kinds.args[0]) if _is_call(kinds, "Choice") else None
    )
    default = _literal(keywords.get("default"))
    return Option(
        name=name.lstrip("-"),
        default=default,
        choices=tuple(choices or ()),
        is_flag=bool(
            switch or boolean or action in ("store_true", "store_false") or _literal(keywords.get("is_flag"))
        ),
        is_positional=is_positional or not long,
        is_required=bool(_literal(keywords.get("required"))) or (not long and default is None),
        help=str(_literal(keywords.get("help")) or ""),
    )


def _parameters(function: ast.FunctionDef) -> Iterator[Option]:
    """Yield the options that typer makes of a function's parameters."""
    arguments = function.args.args + function.args.kwonlyargs
    defaults = [None] * (len(function.args.args) - len(function.args.defaults)) + [*function.args.defaults]
    for argument, default in zip(arguments, [*defaults, *function.args.kw_defaults], strict=True):
        inner = [default, *ast.walk(argument.annotation)] if argument.annotation else [default]
        declared = next(
            (node for node in inner if _is_call(node, "Option") or _is_call(node, "Argument")), None
        )
        words = [
            literal for node in getattr(declared, "args", []) if isinstance(literal := _literal(node), str)
        ]
        named = [word for word in words if word.startswith("--")]
        if declared is default and declared is not None:
            default = declared.args[0] if declared.args else _keyword(declared, "default")
        value = _literal(default)
        is_positional = _is_call(declared, "Argument") or (declared is None and default is None)
        yield Option(
            name=named[0].partition("/")[0].lstrip("-") if named else argument.arg.replace("_", "-"),
            default=None if value is ... else value,
            is_flag=isinstance(value, bool),
            is_positional=is_positional,
            is_required=default is None or value is ...,
            help=str(_literal(_keyword(declared, "help")) or ""),
        )


def _levels(options: list[Option]) -> dict[str, list[Any]]:
    """Return a first factor: an option and its levels, the default first. Options with choices are preferred, then numbers."""
    usable = [option for option in options if not option.is_flag and option.plain not in (*SEEDS, *FOLDERS)]
    for option in usable:
        if len(option.choices) > 1 and all(
            isinstance(choice, str | int | float) for choice in option.choices
        ):
            others = [choice for choice in option.choices if choice != option.default]
            return {option.name: others if option.default is None else [option.default, *others]}
    numbers = [option for option in usable if isinstance(option.default, int | float) and option.default]
    # Floats before integers.
    numbers.sort(key=lambda option: not isinstance(option.default, float))
    for option in numbers:
        more = (
            float(f"{option.default / 10:.6g}") if isinstance(option.default, float) else option.default * 2
        )
        return {option.name: [option.default, more]}
    return {(usable or options)[0].name: [FILL_IN, f"{FILL_IN}_TOO"]}


def _command(script: Path, options: list[Option]) -> str:
    words = ["python" if shutil.which("python") else "python3", str(script)]
    words += [f"{{{option.name}}}" for option in options if option.is_positional]
    for option in options:
        if option.plain in SEEDS:
            words += [f"--{option.name}", "{seed}"]
    return _flow([*words, "{args}"])


def _setting(option: Option) -> Iterator[str]:
    """Yield the lines of an option that does not vary."""
    about = f"     # {printable(one_line(option.help))}" if option.help else ""
    if option.plain in SEEDS:
        return
    if option.is_flag:
        on = {option.name: f"--{option.name}"}
        levels = _flow({"levels": {"off": {option.name: None}, "on": on}})
        yield f"# a flag; to vary it, put {_flow(f'{{{option.name}}}')} into the command, and this line into factors:"
        yield f"#   {_key(option.name)}: {levels}{about}"
    elif _value(option) is None:
        yield f"# {_key(option.name)}: ...{about or '     # the source has no literal default'}"
    else:
        yield f"{_key(option.name)}: {_flow(_value(option))}{about}"


def _value(option: Option) -> Any:
    if option.plain in FOLDERS and not option.is_positional:
        return "{workdir}"
    return FILL_IN if option.default is None and option.is_required else option.default


def _metric(tree: ast.Module) -> str:
    """Return the first key of a dict that the script writes as JSON; if there is none, a placeholder."""
    for node in ast.walk(tree):
        if (_is_call(node, "dumps") or _is_call(node, "dump")) and isinstance(node.args[0], ast.Dict):
            keys = [_literal(key) for key in node.args[0].keys]
            if "step" not in keys and keys and isinstance(keys[0], str):
                return keys[0]
    return "dev/accuracy"


def _is_call(node: Any, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and _called(node) == name


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_typer_command(function: ast.FunctionDef) -> bool:
    """Return whether it is a typer command; a click command has options among its decorators."""
    called = {_called(node) for node in function.decorator_list if isinstance(node, ast.Call)}
    return "command" in called and not called & {"option", "argument"}


def _keyword(call: Any, name: str) -> ast.expr | None:
    return next((word.value for word in getattr(call, "keywords", []) if word.arg == name), None)


def _literal(node: ast.expr | None) -> Any:
    """Return the value of a literal; None for any other expression."""
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def _key(name: str) -> str:
    try:
        is_plain = name.replace("-", "").replace("_", "").isalnum() and isinstance(resolve(name), str)
    # A number that YAML cannot hold.
    except ValueError:
        is_plain = False
    return name if is_plain else json.dumps(name)


def _flow(value: Any) -> str:
    """Return a value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
