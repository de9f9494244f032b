"""The settings of a combination of levels: validated by the trainer, reduced to what differs from its defaults, and hashed.

The trainer's `Settings` decides what is valid; its errors become faults at their places in the study file."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError

from ablate.contract import Trainer
from ablate.errors import BadInput, BadSetting
from ablate.spec.addresses import put
from ablate.spec.model import StudySpec
from ablate.text import printable, shortened, shown, suggestion

HASH_DIGITS = 12
SECRETS = (Secret, SecretBytes, SecretStr)  # pydantic dumps these types as asterisks


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return the first 12 hex digits of SHA-256 over canonical JSON."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


@dataclass
class Validator:
    """Validates combinations of one study with its trainer; collects each distinct fault once, with its key in the file."""

    spec: StudySpec
    trainer: Trainer
    faults: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.factors = {factor.name: factor for factor in self.spec.factors}

    def settings(self, combination: Mapping[str, int]) -> Any | None:
        """Return the trainer's `Settings` of a combination (factor -> level index), or None and faults."""
        nested = self.nested(combination)
        with self.trainer.blamed("Settings"):
            try:
                return self.validated(nested)
            except ValidationError as error:
                for detail in error.errors(include_url=False, include_context=False):
                    self._add(detail["loc"], detail["type"], detail["msg"], detail["input"], combination)
                return None

    def identity(self, settings: BaseModel) -> dict[str, Any]:
        """Return the identity of a Settings object, see `canonical`.

        Raises:
            BadInput: it has no identity.
        """
        with self.trainer.blamed("Settings"):
            return canonical(settings, self.trainer.place)

    def nested(self, combination: Mapping[str, int]) -> dict[str, Any]:
        """Return the fixed settings and those of the levels, nested."""
        nested: dict[str, Any] = {}
        for address, value in self.spec.settings.items():
            put(nested, address, value)
        for name, index in combination.items():
            for address, value in self.factors[name].levels[index].settings.items():
                put(nested, address, value)
        return nested

    def validated(self, settings: Any) -> Any:
        """Return `settings` (nested, or an object) as a fresh Settings object; unknown keys are refused.

        Raises:
            pydantic.ValidationError: the trainer's own error.
        """
        model = self.trainer.Settings
        if isinstance(settings, BaseModel):
            settings = _dump(settings, mode="python", exclude_unset=True)
        free = model.model_config.get("extra") == "allow"
        return model.model_validate(settings, extra=None if free else "forbid")

    def _add(
        self, loc: tuple[int | str, ...], kind: str, message: str, found: Any, combination: Mapping[str, int]
    ) -> None:
        path = tuple(part for part in loc if isinstance(part, str))
        address = ".".join(path)
        key, place = self._place(address, combination, unknown=kind == "extra_forbidden")
        if kind == "extra_forbidden":
            known = _names_beside(self.trainer, path)
            what = f"the trainer has no setting {shown(address)}; {suggestion(path[-1], known)}"
        elif kind == "missing":
            what = f"the trainer needs {shown(address)}; add it to settings or make it a factor"
        elif not path:
            what = _plain(message)
        elif "; " in message:
            # The message already says what was found and how to fix it.
            what = _plain(message)
        else:
            what = f"{_plain(message)}, found {shown(found)}"
        self.faults[f"{place}: {key}: {what}"] = key

    def _place(self, address: str, combination: Mapping[str, int], unknown: bool) -> tuple[str, str]:
        """Return the key as the study writes it, and its `file:line:column`.

        An `unknown` setting is a fault of the whole factor, a bad value one of its level."""
        for name, index in combination.items():
            for set_by in self.factors[name].levels[index].settings:
                if address and (address == set_by or address.startswith(f"{set_by}.")):
                    level = f"factors.{name}.levels[{0 if unknown else index}]"
                    inside = f"{level}.{set_by}"
                    around = f"factors.{name}" if unknown else level
                    at = inside if inside in self.spec.places else around
                    return f"factors.{name}", self.spec.place(at)
        key = f"settings.{address}" if address else "settings"
        return shortened(printable(key)), self.spec.place(key, "factors")

    def fault_of(self, error: BadSetting, levels: Mapping[str, Any]) -> str:
        """Return the fault that a trainer's `check` reported for the cell with these levels, at the place of the setting."""
        indices = {
            name: [repr(level.name) for level in self.factors[name].levels].index(repr(level))
            for name, level in levels.items()
        }
        key, place = self._place(error.address, indices, unknown=False)
        return f"{place}: {key}: {error.problem}"


def _plain(message: str) -> str:
    """Return pydantic's message in our style: one line, first letter in lower case, without 'Value error, '."""
    message = printable(message.removeprefix("Value error, ").removeprefix("Assertion failed, ").rstrip("."))
    return message[:1].lower() + message[1:] if message[:2].istitle() else message


def _names_beside(trainer: Trainer, path: tuple[str, ...]) -> Iterable[str]:
    """Return the names of the trainer's settings at the same level as `path`."""
    inside: list[Any] = [trainer.Settings]
    for name in path[:-1]:
        inside = [inner for annotation in inside for inner in _types_at(annotation, name)]
    return [name for annotation in inside for model in _models_in(annotation) for name in model.model_fields]


def _types_at(annotation: Any, name: str) -> Iterable[Any]:
    """Yield the type annotations of `name` inside a value: of a model's field, or of a mapping's entry."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if name in annotation.model_fields:
            yield annotation.model_fields[name].annotation
    elif isinstance(origin := get_origin(annotation), type) and issubclass(origin, Mapping):
        yield get_args(annotation)[1]
    else:
        for inner in get_args(annotation):
            yield from _types_at(inner, name)


def _models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif not (isinstance(origin := get_origin(annotation), type) and issubclass(origin, Mapping)):
        for inner in get_args(annotation):
            yield from _models_in(inner)


def canonical(settings: BaseModel, place: str = "") -> dict[str, Any]:
    """Return what differs from the trainer's defaults, nested, as plain JSON: the settings' identity. `place`: for messages.

    Defaults are left out, so that writing a default down, or adding a setting to the trainer, does not change the hash.

    Raises:
        BadInput: the dump does not read back as these settings, so something else would be trained.
    """
    kind = f"{type(settings).__module__}.{type(settings).__qualname__}"
    dump: dict[str, Any] = _in_order(_dump(settings, mode="json", exclude_defaults=True), settings)
    chosen = settings.model_dump(exclude_defaults=True, warnings=False)
    if secret := [address for address, value in flat(chosen).items() if isinstance(value, SECRETS)]:
        raise BadInput(
            f"{place}trainer: {kind}: {secret[0]} is a secret, and settings are kept in the database and in reports; leave it "
            "out of the study, and let train read it from the environment"
        )
    if not_finite := [address for address, value in flat(dump).items() if _is_not_finite(value)]:
        raise BadInput(
            f"{place}trainer: {kind}: {not_finite[0]} is not a finite number, so two cells could not be told apart"
        )
    if not _reads_back(dump, settings):
        raise BadInput(
            f"{place}trainer: {kind}: {shortened(printable(repr(settings)))} changes when its own dump, "
            f"{shown(json.dumps(dump))}, is read back; give each member of a union a Literal field, and write validators so "
            "that a value they have returned passes through them unchanged"
        )
    return dump


def _in_order(dumped: Any, value: Any) -> Any:
    """Return a dump with its sets sorted, since the order of a set differs from process to process."""
    if isinstance(value, BaseModel):
        value = {key: getattr(value, key, None) for key in dumped} if isinstance(dumped, dict) else None
    if isinstance(value, Mapping) and isinstance(dumped, Mapping) and len(value) == len(dumped):
        pairs = zip(dumped.items(), value.values(), strict=True)
        return {key: _in_order(inner, own) for (key, inner), own in pairs}
    if isinstance(value, set | frozenset) and isinstance(dumped, list):
        return sorted(dumped, key=json.dumps)
    return dumped


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _dump(settings: BaseModel, mode: Literal["json", "python"], **sparing: Any) -> dict[str, Any]:
    """Return a dump that reads back as these settings: the sparse dump if it does, else its keys with complete values.

    A sparse dump may lack the tag that tells pydantic which member of a union it is."""
    sparse = settings.model_dump(mode=mode, by_alias=True, exclude_computed_fields=True, **sparing)
    if _reads_back(sparse, settings):
        return sparse
    kept = settings.model_dump(warnings=False, exclude_computed_fields=True, **sparing)
    return settings.model_dump(mode=mode, by_alias=True, warnings=False, include=set(kept))


def _reads_back(dumped: Mapping[str, Any], settings: BaseModel) -> bool:
    try:
        again = type(settings).model_validate(dumped)
    except ValidationError:
        return False
    # Objects that differ only in private attributes are unequal, but have the same repr.
    return again == settings or repr(again) == repr(settings)


def defaults_of(settings: BaseModel) -> dict[str, str]:
    """Return what `canonical` leaves out: dotted setting -> the trainer's default, as JSON text (in which NaN equals itself)."""
    chosen = flat(canonical(settings))
    everything = settings.model_dump(
        mode="json", by_alias=True, warnings=False, fallback=_type_name, exclude_computed_fields=True
    )
    return {
        address: json.dumps(value, sort_keys=True, default=str)
        for address, value in flat(everything).items()
        if address not in chosen
    }


def _type_name(value: Any) -> str:
    return type(value).__name__


def flat(nested: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested settings by dotted address; a list is a value."""
    by_address: dict[str, Any] = {}
    for key, value in nested.items():
        address = f"{path}.{key}" if path else str(key)
        by_address |= flat(value, address) if isinstance(value, Mapping) else {address: value}
    return by_address
