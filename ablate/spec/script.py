"""Write a study that runs a user's script, from the options that
its source declares. The script is read, never run or imported.

Understands argparse (`add_argument`), click (`@click.option`) and typer (a command's parameters)."""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeGuard

from ablate.errors import BadInput
from ablate.spec.designs import KINDS
from ablate.spec.factors import FACTOR_NAME
from ablate.spec.file_text import read_text
from ablate.spec.scalars import resolve
from ablate.text import as_it_looks, one_line, printable, sounds_like_a_loss, suggestion

SEEDS = ("seed", "random_seed", "random_state")
# Where a script writes: a folder, or a file if the default has a suffix.
OUTPUTS = (
    *(
        f"{what}_{kind}"
        for what in ("output", "out", "save", "log", "result", "results")
        for kind in ("dir", "path", "file")
    ),
    *("out", "outdir", "output", "logdir", "logging_dir", "run_dir", "workdir", "checkpoint_dir"),
)
FILL_IN = "FILL_IN"
NO_SEED = "     # no option for the seed was found: let the script read ABLATE_SEED, or all seeds give the same result"
# `ablate.command` has other uses for settings that begin with these names.
RESERVED = ("seed", "workdir", "device", "command", "gpus", "grace_seconds", "args", "overrides", "config")
# Name of a call -> whether it declares a positional argument.
_CALLS = {"add_argument": False, "option": False, "argument": True}
_SWITCHES = ("store_true", "store_false", "store_const", "append_const", "count")
_REPEATED = ("append", "extend")
_NUMBERS = ("int", "float")
MOST_CHOICES = 8  # of a range


@dataclass(frozen=True)
class Option:
    """An option of a script."""

    written: str  # as typed on the command line, with its dashes
    default: Any = None  # as `ablate.command` passes it; None: it is not passed
    why_none: str = ""  # why the default is not passed
    choices: tuple[Any, ...] = ()
    is_number: bool = False  # whether it surely takes other numbers too
    on: str = ""  # of a flag: what switches it on
    off: str | None = None  # of a flag: what switches it off; None: leaving it out
    count: int = 1  # how many values it needs
    is_positional: bool = False
    is_required: bool = False
    help: str = ""

    @property
    def name(self) -> str:
        """The name without the leading dashes."""
        return self.written.lstrip("-")

    @property
    def plain(self) -> str:
        """The name as a Python identifier."""
        return self.name.replace("-", "_")

    @property
    def key(self) -> str:
        """The name of its setting."""
        # A factor's name begins with a letter.
        is_taken = self.name.partition(".")[0] in RESERVED or not re.match("[A-Za-z_]", self.name)
        return f"script-{self.name}" if is_taken else self.name

    @property
    def is_in_args(self) -> bool:
        """Whether `{args}` passes its setting as the script wants it."""
        return not self.on and self.written == f"--{self.key}"

    @property
    def is_factor(self) -> bool:
        """Whether it can be a factor."""
        return self.count == 1 and not self.of_trial and re.fullmatch(FACTOR_NAME, self.key) is not None

    @property
    def of_trial(self) -> str:
        """The placeholder that stands for its value, which each trial has of its own."""
        if self.on or self.count > 1:
            return ""
        if self.plain in SEEDS:
            return "{seed}"
        if self.plain in OUTPUTS and not self.is_positional:
            file = PurePath(self.default).name if isinstance(self.default, str) else ""
            return f"{{workdir}}/{file}" if PurePath(file).suffix else "{workdir}"
        is_device = self.plain == "device" and not self.choices and not isinstance(self.default, int | float)
        return "{device}" if is_device else ""

    @property
    def value(self) -> Any:
        """The value where it does not vary; None: it is not passed."""
        if self.of_trial or self.on:
            return self.of_trial or None
        if self.default is None and self.is_required:
            return FILL_IN if self.count == 1 else [FILL_IN] * self.count
        return self.default


@dataclass(frozen=True)
class _Takes:
    """Which values an option takes, and how."""

    type: str = ""
    by_default: bool = False  # whether the default's type is that of the option, as in click and typer
    nargs: int | str | None = None
    is_repeated: bool = False
    is_one_word: bool = False  # whether its setting must become one argument
    refusal: str = ""  # why no default can be passed

    @property
    def is_single(self) -> bool:
        """Whether it takes one value, once."""
        return self.nargs in (None, "?") and not self.is_repeated and not self.refusal


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
    factor, levels = _factor(options)
    if factor is None:
        raise BadInput(
            f"--script: {script} declares no option that a study could vary; see docs/how_to/own_script.md for others"
        )
    first = next(iter(levels))
    seeded = any(option.of_trial == "{seed}" for option in options)
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
        option.name for option in options if FILL_IN in _listed(first if option is factor else option.value)
    ]
    return "\n".join(lines) + "\n", fill_in


def _options(tree: ast.Module) -> Iterator[Option]:
    """Yield the options that the source declares, from top to bottom."""
    run = {getattr(node.args[0], "id", "") for node in ast.walk(tree) if _is_call(node, "run") and node.args}
    groups = {
        getattr(target, "id", "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_call(node.value, "add_mutually_exclusive_group")
        for target in node.targets
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in _CALLS and node.args:
            if option := _declared(node, groups):
                yield option
        elif isinstance(node, ast.FunctionDef) and (node.name in run or _is_typer_command(node)):
            yield from _parameters(node)


def _declared(call: ast.Call, groups: set[str]) -> Option | None:
    """Return the option of an argparse or click call. `groups`: the variables of mutually exclusive groups."""
    names = [literal.strip() for argument in call.args if isinstance(literal := _literal(argument), str)]
    keywords = {word.arg: word.value for word in call.keywords if word.arg}
    action = _literal(keywords.get("action"))
    if not names or action in ("help", "version"):
        return None
    is_argparse = _called(call) == "add_argument"
    offs = [] if is_argparse else [name.partition("/")[2].strip() for name in names if "/" in name]
    names = names if is_argparse else [name.partition("/")[0].strip() for name in names]
    written = next((name for name in names if name.startswith("--")), names[0])
    if "BooleanOptionalAction" in ast.dump(keywords.get("action", ast.Pass())):
        offs = [f"--no-{written.lstrip('-')}"]
    switches = (_literal(keywords.get(name)) for name in ("is_flag", "count", "flag_value"))
    is_flag = bool(offs) or action in _SWITCHES or any(value not in (None, False) for value in switches)
    is_positional = _CALLS[_called(call)] or not written.startswith("-")
    kinds = keywords.get("type")
    takes = _Takes(
        type=_type_name(kinds),
        by_default=not is_argparse,
        nargs=len(kinds.elts) if isinstance(kinds, ast.Tuple) else _nargs(keywords.get("nargs")),
        is_repeated=action in _REPEATED or bool(_literal(keywords.get("multiple"))),
        is_one_word=is_positional or not written.startswith("--"),
        refusal=_refusal(call, action if isinstance(action, str) else keywords.get("action"), groups),
    )
    chosen = keywords.get("choices") or (kinds.args[0] if _is_call(kinds, "Choice") and kinds.args else None)
    may_be_missing = takes.nargs in ("?", "*") or "default" in keywords
    return _option(
        written,
        keywords.get("default"),
        takes,
        chosen,
        on=written if is_flag else "",
        off=offs[0] if offs else None,
        is_positional=is_positional,
        is_required=any(_literal(keywords.get(name)) not in (None, False) for name in ("required", "prompt"))
        or (is_positional and not may_be_missing and _literal(keywords.get("required")) is not False),
        help=str(_literal(keywords.get("help")) or ""),
    )


def _parameters(function: ast.FunctionDef) -> Iterator[Option]:
    """Yield the options that typer makes of a function's parameters."""
    arguments = function.args.args + function.args.kwonlyargs
    defaults = [None] * (len(function.args.args) - len(function.args.defaults)) + [*function.args.defaults]
    for argument, default in zip(arguments, [*defaults, *function.args.kw_defaults], strict=True):
        annotation = argument.annotation
        names = [
            getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(annotation or ast.Pass())
        ]
        if "Context" in names:
            continue
        inner = [default, *ast.walk(annotation)] if annotation else [default]
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
        is_required = (default is None or value is ...) and not _keyword(declared, "default_factory")
        is_positional = _is_call(declared, "Argument") or (declared is None and default is None)
        on, slash, off = named[0].partition("/") if named else (f"--{argument.arg.replace('_', '-')}", "", "")
        is_flag = "bool" in names or isinstance(value, bool) or bool(_literal(_keyword(declared, "count")))
        off = off if slash or named else f"--no-{on.lstrip('-')}"
        takes = _Takes(
            # Annotated[int, ...], Optional[int], int | None
            type=next((name for name in names if name in (*_NUMBERS, "str", "Path")), "other"),
            by_default=True,
            nargs="*" if {"tuple", "Tuple"} & {*names} else None,
            is_repeated=bool({"list", "List"} & {*names}),
            is_one_word=is_positional,
        )
        bounds = [_keyword(declared, name) for name in ("min", "max", "click_type", "parser", "callback")]
        literals = [
            node.slice
            for node in ast.walk(annotation or ast.Pass())
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal"
        ]
        yield _option(
            argument.arg if is_positional else on.strip(),
            None if value is ... else default,
            takes,
            next(iter(literals), next((bound for bound in bounds if bound is not None), None)),
            on=on.strip() if is_flag else "",
            off=off.strip() or None if is_flag else None,
            is_positional=is_positional,
            is_required=is_required and not (is_positional and takes.is_repeated),
            help=str(_literal(_keyword(declared, "help")) or ""),
        )


def _option(
    written: str, default: ast.expr | None, takes: _Takes, chosen: ast.expr | None, **about: Any
) -> Option:
    """Return an option with the values that can be passed. `chosen`: the source's expression for the valid values."""
    value = _literal(default)
    if about["on"]:
        return Option(written, default=value is True, **about)
    known = _choices(chosen)
    choices = [choice for choice in known if _is_passed(choice, takes)] if takes.is_single else []
    choices = list({as_it_looks(str(choice)): choice for choice in reversed(choices)}.values())[::-1]
    passed, why = None, ""
    try:
        passed = None if default is None or _is_null(default) else _passed(value, takes)
        if passed is not None and known and passed not in known:
            passed, why = None, "its default is none of its choices"
    except ValueError as error:
        why = str(error)
    is_number = (
        takes.is_single
        and chosen is None
        and (takes.type in _NUMBERS or (takes.by_default and not takes.type))
    )
    return Option(
        written,
        default=passed,
        why_none=why,
        choices=tuple(choices),
        is_number=is_number and isinstance(passed, int | float) and not isinstance(passed, bool),
        count=takes.nargs if isinstance(takes.nargs, int) else 1,
        **about,
    )


def _refusal(call: ast.Call, action: str | ast.expr | None, groups: set[str]) -> str:
    """Return why an option's default should not be passed, whatever it is."""
    group = call.func.value if isinstance(call.func, ast.Attribute) else None
    if getattr(group, "id", "") in groups or _is_call(group, "add_mutually_exclusive_group"):
        return "it excludes other options"
    return "" if action in (None, "store", *_REPEATED) else "it has an action of its own"


def _passed(value: Any, takes: _Takes) -> Any:
    """Return a default as a setting from which the script gets the same value again.

    Raises:
        ValueError: there is none; the message says why.
    """
    if value is None:
        raise ValueError("the source has no literal default")
    if takes.refusal:
        raise ValueError(takes.refusal)
    if takes.is_repeated:
        raise ValueError("it may be given several times, a setting only once")
    is_list = isinstance(value, list | tuple)
    if is_list == takes.is_single:
        raise ValueError("its default has another form than what is passed")
    if not is_list:
        return _single(value, takes)
    if takes.is_one_word or (not value and takes.nargs != "*") or takes.nargs not in ("*", "+", len(value)):
        raise ValueError("its default cannot be passed")
    return [_single(item, takes) for item in value]


def _single(value: Any, takes: _Takes) -> Any:
    if isinstance(value, str):
        is_odd = value.startswith("-") or not value.isprintable()
        if is_odd or any(f"{{{name}}}" in value for name in RESERVED):
            raise ValueError("its default cannot be passed")
        return value
    if isinstance(value, float) and takes.type == "int" and value.is_integer():
        value = int(value)
    if type(value) not in (bool, int, float) or not -(2.0**63) < value < 2.0**63:
        raise ValueError("its default is neither text nor a number")
    fits = takes.by_default or (takes.type in _NUMBERS and not isinstance(value, bool))
    if not fits or (takes.type == "int" and isinstance(value, float)):
        raise ValueError("the script would get its default as another type")
    return value


def _is_passed(value: Any, takes: _Takes) -> bool:
    try:
        return _single(value, takes) is not None
    except ValueError:
        return False


def _choices(node: ast.expr | None) -> tuple[Any, ...]:
    """Return the values in a literal list, tuple, set, dict or text, or in a range; none if it is something else."""
    if _is_call(node, "range"):
        bounds = [_literal(bound) for bound in node.args]
        if all(type(bound) is int for bound in bounds) and 1 <= len(bounds) <= 3 and 0 not in bounds[2:]:
            return tuple(range(*bounds)[:MOST_CHOICES])
    values = _literal(node)
    if isinstance(values, set | frozenset):
        return tuple(sorted(values, key=repr))
    return tuple(values) if isinstance(values, list | tuple | dict | str) else ()


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
    return (usable[0], [FILL_IN, f"{FILL_IN}_TOO"]) if usable else (None, [])


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


def _type_name(node: ast.expr | None) -> str:
    """Return the name of a type, or of what makes one."""
    return (
        _called(node)
        if isinstance(node, ast.Call)
        else getattr(node, "id", getattr(node, "attr", "other" * (node is not None)))
    )


def _nargs(node: ast.expr | None) -> int | str | None:
    """Return how many values an option takes: a number, None for one without a list, "?", "+", or "*" for anything else."""
    nargs = _literal(node)
    if node is None or _is_null(node):
        return None
    is_known = nargs in ("?", "+") or (type(nargs) is int and nargs > 0)
    return nargs if is_known else "*"


def _is_null(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _literal(node: ast.expr | None) -> Any:
    """Return the value of a literal, or of a path of literal text; None for any other expression."""
    if _is_call(node, "Path") and len(node.args) == 1:
        return _literal(node.args[0])
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


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flow(value: Any) -> str:
    """Return a value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)
