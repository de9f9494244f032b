"""What a value of a study file may be, and what to say of one that is something else.

pydantic checks the values, but its own words are for programmers. The errors raised here carry a sentence for the
reader of the file; `ablate.spec.places` adds where it stands and what was found there."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    Strict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

from ablate.text import shown, suggestion

Loc = tuple[int | str, ...]
KEY = "[key]"  # last in a Loc: the key itself is at fault, not its value; pydantic's own convention


def fault(text: str) -> PydanticCustomError:
    """Return an error whose message is `text`."""
    return PydanticCustomError("fault", "{text}", {"text": text})


def expected(what: str) -> PydanticCustomError:
    """Return an error whose message is what was found, and `what` to write instead."""
    return PydanticCustomError("expected", "{text}", {"text": what})


def absent(text: str) -> PydanticCustomError:
    """Return the error of a key that is not there, which its Loc names."""
    return PydanticCustomError("absent", "{text}", {"text": text})


class Errors:
    """Errors of several checks of one value, raised together when its `with` ends: pydantic stops at the first.

    Raises:
        pydantic.ValidationError: to be raised inside a validator; pydantic adds where that stands.
    """

    def __init__(self) -> None:
        self.found: list[InitErrorDetails] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.found and error is None:
            raise ValidationError.from_exception_data("study", self.found)

    def add(self, error: str | PydanticCustomError, *loc: int | str) -> None:
        """Note an error, or the text of a fault, at `loc`."""
        kind = fault(error) if isinstance(error, str) else error
        self.found.append({"type": kind, "loc": loc, "input": None})

    def take(self, errors: Iterable[ErrorDetails], *loc: int | str) -> None:
        """Note errors that pydantic has collected, under `loc`."""
        for one in errors:
            kind, ctx = one["type"], one.get("ctx", {})
            type_ = PydanticCustomError(kind, "{text}", ctx) if "text" in ctx else kind
            self.found.append({"type": type_, "loc": (*loc, *one["loc"]), "input": one["input"], "ctx": ctx})

    @contextmanager
    def under(self, *loc: int | str) -> Iterator[None]:
        """Note what a validation raises, under `loc`, and go on."""
        try:
            yield
        except ValidationError as error:
            self.take(error.errors(include_url=False), *loc)
        except PydanticCustomError as error:
            self.add(error, *loc)


class Frozen(BaseModel):
    """A value: compared by content, never changed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Written(Frozen):
    """A mapping of the study file: a missing key comes with an example, an unknown one with the nearest known."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Any], info: ValidationInfo) -> Any:
        read = None
        with Errors() as errors:
            try:
                read = handler(data)
            except ValidationError as error:
                for one in error.errors(include_url=False):
                    if (
                        one["type"] in ("missing", "extra_forbidden", "literal_error")
                        and len(one["loc"]) == 1
                    ):
                        cls._add(errors, one["type"], str(one["loc"][0]), one["input"])
                    else:
                        errors.take([one])
            if info.context is not None and isinstance(
                data, dict
            ):  # from a file; stored studies do have nulls
                for name in (name for name, value in data.items() if value is None):
                    if name in cls.model_fields and cls.model_fields[name].default is None:
                        errors.add(expected("a value, or leave the key out"), name)
        return read

    @classmethod
    def _add(cls, errors: Errors, kind: str, name: str, found: Any) -> None:
        if kind == "missing":
            errors.add(
                absent(f"missing; add e.g. {name}: {flow((cls.model_fields[name].examples or ['...'])[0])}"),
                name,
            )
        elif kind == "extra_forbidden":
            errors.add(cls.unknown(name), name, KEY)
        else:
            errors.add(one_of(name, found, get_args(cls.model_fields[name].annotation)), name)

    @classmethod
    def unknown(cls, name: str) -> str:
        """Say that `name` is no key here."""
        return f"unknown key; {suggestion(name, cls.model_fields)}"


def one_of(what: str, found: Any, known: Iterable[str]) -> PydanticCustomError:
    """Return the error of a `what` that is not one of the `known` names."""
    if isinstance(found, str) and found.strip():
        return fault(f"no {what} {shown(found)}; {suggestion(found, known)}")
    return expected(f"one of {', '.join(known)}")


def write(what: str) -> WrapValidator:
    """Say `what` to write where a value is not of its type. Faults inside a value have words of their own."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            if any("text" in one.get("ctx", {}) or one["loc"] for one in error.errors(include_url=False)):
                raise
            raise expected(what) from error

    return WrapValidator(check)


@dataclass(frozen=True)
class Whole:
    """A whole number of a range; neither true nor 3.0 is one."""

    least: int
    most: int

    def __call__(self, value: Any) -> int:
        """Return the value if it is one."""
        if type(value) is int and self.least <= value <= self.most:
            return value
        raise expected(f"a whole number from {self.least} to {self.most:,}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check before pydantic does; the bounds are there for the JSON Schema."""
        return core_schema.no_info_before_validator_function(
            self, core_schema.int_schema(ge=self.least, le=self.most)
        )


def not_blank(text: str) -> str:
    """Return the text unless there is nothing in it."""
    if not text.strip():
        raise ValueError("blank")
    return text


Number = Annotated[float, Strict(), write("a number")]
Positive = Annotated[float, Strict(), Field(gt=0), write("a number above 0")]
Text = Annotated[str, AfterValidator(not_blank)]


def flow(value: Any) -> str:
    """Return an example as a study file writes it on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, str) else shown(value)
