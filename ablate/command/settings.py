"""The settings of a command, and its arguments: placeholders are filled, and every setting must reach the program."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ablate.text import shown, suggestion

# `{name}`; doubled braces stand for one brace each; a lone brace is a fault.
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
OF_TRIAL = ("seed", "workdir", "device")  # these are also replaced inside the values of settings
SEVERAL = ("args", "overrides")  # each becomes several arguments: all settings that the command does not name
FILL_IN = ("FILL_IN", "FILL_IN_TOO")  # what `ablate init` writes where it knows no value
EVERYTHING = (*SEVERAL, "config", "config.yaml")  # each of these passes all settings to the program


@dataclass(frozen=True)
class Trial:
    """What the placeholders of one trial stand for, besides settings."""

    seed: int = 0
    device: str = "cpu"
    workdir: Path = Path()

    @property
    def config(self) -> Path:
        """The JSON file with all settings."""
        return self.workdir / "settings.json"

    @property
    def config_yaml(self) -> Path:
        """The YAML file with all settings."""
        return self.workdir / "settings.yaml"

    @property
    def placeholders(self) -> dict[str, str]:
        """Placeholder -> value."""
        return {
            "seed": str(self.seed),
            "workdir": str(self.workdir),
            "device": self.device,
            "config": str(self.config),
            "config.yaml": str(self.config_yaml),
        }


def _words(command: Any) -> Any:
    """Split text as a shell does; in a list, write numbers and booleans as in the study file."""
    if isinstance(command, str):
        try:
            return shlex.split(command)
        except ValueError as error:
            raise ValueError(
                f"{str(error).lower()}; close the quote, or write the command as a list"
            ) from error
    if isinstance(command, list):
        return [text_of(word) if isinstance(word, bool | int | float) else word for word in command]
    return command


class Settings(BaseModel):
    """The command, and any settings for it."""

    model_config = ConfigDict(extra="allow")

    command: Annotated[list[str], BeforeValidator(_words)]
    """The program and its arguments: a list, or one text that is split as a shell would. No shell is started."""
    gpus: Annotated[int, Field(strict=True, ge=0)] = 1
    """How many GPUs the program is given."""
    grace_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    """How long after SIGTERM the program may save before it is killed."""

    @property
    def of_program(self) -> dict[str, Any]:
        """The program's settings, nested, as in the study."""
        return self.model_extra or {}

    def values_for(self, trial: Trial) -> dict[str, Any]:
        """Return the program's settings in a trial: `{seed}`, `{workdir}` and `{device}` filled in."""
        filled: dict[str, Any] = _of_trial(self.of_program, trial)
        return filled

    def arguments(self, trial: Trial) -> list[str]:
        """Return the program and its arguments in a trial."""
        values = addressed(self.values_for(trial)) | {"gpus": self.gpus, "grace_seconds": self.grace_seconds}
        values |= trial.placeholders
        arguments: list[str] = []
        for word in self.command:
            if word == "{args}":
                arguments += self._options(trial)
            elif word == "{overrides}":
                arguments += [f"{address}={text_of(value)}" for address, value in self._unnamed(trial)]
            # If a setting is null, an argument that is just its placeholder is left out.
            elif not (word.startswith("{") and values.get(word[1:-1], "") is None):
                arguments.append(PLACEHOLDER.sub(lambda match: _filled(match, values), word))
        return arguments

    def _options(self, trial: Trial) -> Iterator[str]:
        """Yield `--name value` for each setting that the command does not name: with several values for a list."""
        for address, value in self._unnamed(trial):
            yield f"--{address}"
            yield from map(text_of, value if isinstance(value, list) else [value])

    def _unnamed(self, trial: Trial) -> Iterator[tuple[str, Any]]:
        """Yield the address and value of each setting that the command does not name and that is not null."""
        named = {name for word in self.command for name in names_in(word)}
        for address, value in leaves(self.values_for(trial)):
            if value is not None and not _is_in(address, named):
                yield address, value

    @model_validator(mode="after")
    def _all_reach_the_program(self) -> Self:
        faults = [*self._faults_of_command(), *self._faults_of_names()]
        if not faults:
            faults = list(self._unreachable())
        if faults:
            raise ValidationError.from_exception_data("command", faults)
        return self

    def _faults_of_command(self) -> Iterator[InitErrorDetails]:
        if not self.command or not self.command[0].strip():
            yield _fault(
                "empty; write the program and its arguments, e.g. [python, train.py, '{args}']", "command"
            )
        known = [*addressed(self.of_program), "gpus", "grace_seconds", *OF_TRIAL, *EVERYTHING]
        for word in self.command:
            for name in names_in(word):
                if name in ("{", "}"):
                    yield _fault(
                        f"a lone brace in {shown(word)}; write {{{{ or }}}} for a literal brace", "command"
                    )
                elif name not in known:
                    yield _fault(
                        f"unknown placeholder {{{name}}} in {shown(word)}; {suggestion(name, known)} "
                        "({args} and {config} pass what exists only in some cells, {{ }} are braces)",
                        "command",
                    )
                elif name in SEVERAL and word != f"{{{name}}}":
                    yield _fault(
                        f"{{{name}}} becomes several arguments, found {shown(word)}; make it a separate argument",
                        "command",
                    )

    def _faults_of_names(self) -> Iterator[InitErrorDetails]:
        for name, value in self.of_program.items():
            if name in (*OF_TRIAL, *EVERYTHING) and value != f"{{{name}}}":
                yield _fault(f"{{{name}}} is reserved in a command; rename the setting", name)
        for address, value in leaves(self.of_program):
            if any(one in FILL_IN for one in (value if isinstance(value, list) else [value])):
                yield _fault("`ablate init` left this for you to fill in; write a value", *address.split("."))

    def _unreachable(self) -> Iterator[InitErrorDetails]:
        named = {name for word in self.command for name in names_in(word)}
        if named.isdisjoint(EVERYTHING):
            for address, _ in leaves(self.of_program):
                if not _is_in(address, named):
                    yield _fault(
                        f"never reaches the program; put {{{address}}}, {{args}} or {{config}} into the command",
                        *address.split("."),
                    )


def _fault(text: str, *loc: str) -> InitErrorDetails:
    return {"type": PydanticCustomError("command", "{text}", {"text": text}), "loc": loc, "input": None}


def names_in(word: str) -> list[str]:
    """Return the names of the placeholders in an argument; a lone brace is returned as it is, and refused later."""
    matches = (match for match in PLACEHOLDER.finditer(word) if match[0] not in ("{{", "}}"))
    return [match[0] if match[1] is None else match[1] for match in matches]


def _filled(match: re.Match[str], values: Mapping[str, Any]) -> str:
    return match[0][0] if match[1] is None else text_of(values[match[1]])


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted address and value of each setting; a list is a value."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def addressed(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what placeholders may name, by dotted address: each setting, and each mapping of settings."""
    by_address: dict[str, Any] = {}
    for name, value in settings.items():
        by_address[f"{prefix}{name}"] = value
        if isinstance(value, dict):
            by_address |= addressed(value, f"{prefix}{name}.")
    return by_address


def _is_in(address: str, named: set[str]) -> bool:
    """Return whether a placeholder names a setting, or a mapping that contains it."""
    return any(f"{address}.".startswith(f"{name}.") for name in named)


def text_of(value: Any) -> str:
    """Return a value as an argument: as a study file writes it; lists and mappings as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _of_trial(value: Any, trial: Trial) -> Any:
    """Fill the trial's placeholders into a value. Other braces are kept: the value may be a prompt template."""
    if isinstance(value, dict):
        return {name: _of_trial(inner, trial) for name, inner in value.items()}
    if isinstance(value, list):
        return [_of_trial(inner, trial) for inner in value]
    if value == "{seed}":
        return trial.seed
    if isinstance(value, str):
        for name in OF_TRIAL:
            value = value.replace(f"{{{name}}}", trial.placeholders[name])
    return value
