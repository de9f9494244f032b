"""The types of values in a study file, with messages for values that do not fit.

pydantic checks the values, but its messages are for programmers. The errors raised here carry a message for the author
of the file; `ablate.spec.places` adds its place, and what was found there."""

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
KEY = "[key]"  # last in a Loc: the fault is in the key, not in its value; pydantic's convention too


def fault(text: str) -> PydanticCustomError:
    """Return an error whose message is `text`."""
    return PydanticCustomError("fault", "{text}", {"text": text})


def expected(what: str) -> PydanticCustomError:
    """Return an error that reports what was found and says to write `what` instead."""
    return PydanticCustomError("expected", "{text}", {"text": what})


def absent(text: str) -> PydanticCustomError:
    """Return the error for a missing key, which its Loc names."""
    return PydanticCustomError("absent", "{text}", {"text": text})


class Errors:
    """Collects the errors of several checks of one value and raises them together when its `with` block ends.

    A validator alone could raise only its first error.

    Raises:
        pydantic.ValidationError: inside a validator; pydantic adds the place of the value.
    """

    def __init__(self) -> None:
        self.collected: list[InitErrorDetails] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.collected and error is None:
            raise ValidationError.from_exception_data("study", self.collected)

    def add(self, error: str | PydanticCustomError, *loc: int | str) -> None:
        """Note an error, or the text of a fault, at `loc`."""
        kind = fault(error) if isinstance(error, str) else error
        self.collected.append({"type": kind, "loc": loc, "input": None})

    def take(self, errors: Iterable[ErrorDetails], *loc: int | str) -> None:
        """Note errors that pydantic has collected, under `loc`."""
        for error in errors:
            kind, ctx = error["type"], error.get("ctx", {})
            type_ = PydanticCustomError(kind, "{text}", ctx) if "text" in ctx else kind
            error_loc = (*loc, *error["loc"])
            self.collected.append({"type": type_, "loc": error_loc, "input": error["input"], "ctx": ctx})

    @contextmanager
    def under(self, *loc: int | str) -> Iterator[None]:
        """Collect what a validation raises, under `loc`, and continue."""
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
    """A mapping in the study file: a missing key is reported with an example, an unknown one with the closest known key."""

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Any], info: ValidationInfo) -> Any:
        read = None
        with Errors() as errors:
            try:
                read = handler(data)
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    is_of_a_key = len(detail["loc"]) == 1
                    if is_of_a_key and detail["type"] in ("missing", "extra_forbidden", "literal_error"):
                        cls._add(errors, detail["type"], str(detail["loc"][0]), detail["input"])
                    else:
                        errors.take([detail])
            # Only a file has a context. Stored studies do contain nulls.
            if info.context is not None and isinstance(data, dict):
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
        """Return the message for a key that does not exist."""
        return f"unknown key; {suggestion(name, cls.model_fields)}"


def one_of(what: str, found: Any, known: Iterable[str]) -> PydanticCustomError:
    """Return the error for a `what` that is not one of the `known` names."""
    if isinstance(found, str) and found.strip():
        return fault(f"no {what} {shown(found)}; {suggestion(found, known)}")
    return expected(f"one of {', '.join(known)}")


def write(what: str) -> WrapValidator:
    """Report a value of the wrong type by saying `what` to write. Faults inside a value keep their own messages."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            details = error.errors(include_url=False)
            if any("text" in detail.get("ctx", {}) or detail["loc"] for detail in details):
                raise
            raise expected(what) from error

    return WrapValidator(check)


@dataclass(frozen=True)
class Whole:
    """A whole number in a range. Refuses true and 3.0, which pydantic takes for 1 and 3."""

    least: int
    most: int

    def __call__(self, value: Any) -> int:
        """Return the value if it is such a number."""
        if type(value) is int and self.least <= value <= self.most:
            return value
        raise expected(f"a whole number from {self.least} to {self.most:,}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check before pydantic does; its own bounds only serve the JSON Schema."""
        return core_schema.no_info_before_validator_function(
            self, core_schema.int_schema(ge=self.least, le=self.most)
        )


def not_blank(text: str) -> str:
    """Return the text; refuse blank text."""
    if not text.strip():
        raise ValueError("blank")
    return text


Number = Annotated[float, Strict(), write("a number")]
Positive = Annotated[float, Strict(), Field(gt=0), write("a number above 0")]
# Its square must be a number too.
Difference = Annotated[float, Strict(), Field(gt=0, le=1e100), write("a number above 0, at most 1e100")]
Text = Annotated[str, AfterValidator(not_blank)]


def flow(value: Any) -> str:
    """Return an example as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    return value if isinstance(value, str) else shown(value)
