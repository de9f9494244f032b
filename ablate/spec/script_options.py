"""Read the options that a script's source declares with argparse (`add_argument`), click (`@click.option`) or typer (a command's
parameters). The script is parsed, never run or imported."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeGuard

from ablate.errors import BadInput
from ablate.spec.factors import FACTOR_NAME
from ablate.text import as_it_looks

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


def options_of(tree: ast.Module) -> Iterator[Option]:
    """Yield the options that the source declares, from top to bottom.

    Raises:
        BadInput: it has subcommands, which have options of their own.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    _refuse_subcommands(tree, calls)
    run = {getattr(call.args[0], "id", "") for call in calls if _is_call(call, "run") and call.args}
    groups = {
        getattr(target, "id", "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_call(node.value, "add_mutually_exclusive_group")
        for target in node.targets
    }
    resets = [call for call in calls if _is_call(call, "set_defaults")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in _CALLS and node.args:
            if option := _declared(node, groups, resets):
                yield option
        elif isinstance(node, ast.FunctionDef) and (node.name in run or _is_typer_command(node)):
            yield from _parameters(node)


def _refuse_subcommands(tree: ast.Module, calls: list[ast.Call]) -> None:
    decorators = [
        decorator
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    ]
    groups = [call for call in calls if _called(call) in ("add_subparsers", "group")]
    commands = [node for node in decorators if _name(node) == "command"]
    for node in [*groups, *[node for node in decorators if _name(node) == "group"], *commands[1:]]:
        raise BadInput(
            f"line {node.lineno}: subcommands, whose options cannot be told apart; write the study by hand and name the "
            'subcommand in its command, such as [python, train.py, fit, "{args}"]: see docs/how_to/own_script.md'
        )


def _declared(call: ast.Call, groups: set[str], resets: list[ast.Call]) -> Option | None:
    """Return the option of an argparse or click call.

    Args:
        groups: the variables of mutually exclusive groups.
        resets: the calls of `set_defaults`.
    """
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
    default = keywords.get("default")
    destination = _literal(keywords.get("dest")) or written.lstrip("-").replace("-", "_")
    if is_argparse:
        for reset in resets:
            # A `set_defaults` before the option is declared is overridden by the option's own default.
            if (default is None or reset.lineno > call.lineno) and _keyword(reset, destination):
                default = _keyword(reset, destination)
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
        refusal=_refusal(call, action if isinstance(action, str) else keywords.get("action"), groups)
        or ("its default may be set elsewhere" if _sets_unknown(resets) else ""),
    )
    chosen = keywords.get("choices") or (kinds.args[0] if _is_call(kinds, "Choice") and kinds.args else None)
    may_be_missing = takes.nargs in ("?", "*") or default is not None
    return _option(
        written,
        default,
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


def _sets_unknown(resets: list[ast.Call]) -> bool:
    """Return whether `set_defaults(**anything)` may change every default."""
    return any(word.arg is None for reset in resets for word in reset.keywords)


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
        raise ValueError(
            "its default is a list, but it takes one value"
            if is_list
            else "its default is one value, but it takes a list"
        )
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
        raise ValueError("its default is neither text nor a number between -2^63 and 2^63")
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


def metric_of(tree: ast.Module) -> str:
    """Return the first key of a dict that the script writes as JSON; if there is none, a placeholder."""
    for node in ast.walk(tree):
        if (_is_call(node, "dumps") or _is_call(node, "dump")) and isinstance(node.args[0], ast.Dict):
            keys = [_literal(key) for key in node.args[0].keys]
            if "step" not in keys and keys and isinstance(keys[0], str):
                return keys[0]
    return "dev/accuracy"


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


def _is_typer_command(function: ast.FunctionDef) -> bool:
    """Return whether it is a typer command; a click command has options among its decorators."""
    called = {_called(node) for node in function.decorator_list if isinstance(node, ast.Call)}
    return "command" in called and not called & {"option", "argument"}


def _is_call(node: Any, name: str) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and _called(node) == name


def _called(call: ast.Call) -> str:
    return _name(call.func)


def _name(node: ast.expr) -> str:
    """Return the last name of a name, an attribute, or a call of one."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _keyword(call: Any, name: str) -> ast.expr | None:
    return next((word.value for word in getattr(call, "keywords", []) if word.arg == name), None)


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
