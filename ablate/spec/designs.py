"""The kinds of design: which combinations of levels a study runs, and the options that each kind has.

A new kind is a class here, a line in `CHOOSERS` in `ablate/design/registry.py`, and a file of its own in `ablate/design` if
choosing its cells takes more than a few lines."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field

from ablate.spec.rules import KEY, Errors, Whole, Written, absent, expected, one_of
from ablate.text import suggestion

MAX_CELLS = 100_000

# Only the Optuna samplers that propose from nothing but the recorded trials. The others (CMA-ES, genetic ones) keep state in
# memory, which a killed search would lose.
Sampler = Literal["tpe", "gp", "random"]
Pruner = Literal["none", "median", "asha", "hyperband", "wilcoxon"]


class _Kind(Written):
    """What every kind of design has."""

    # A mapping must name `kind`, although it has a default: a kind without options is written as text.
    model_config = ConfigDict(json_schema_extra={"required": ["kind"]})

    kind: str
    from_reference: ClassVar[bool] = False  # each effect is the difference of one cell from a reference cell
    starts_at_best: ClassVar[bool] = False  # the reference cell is `best`, not the baseline
    # Some cells of the full design, from which a model estimates the effects.
    is_fraction: ClassVar[bool] = False

    @classmethod
    def unknown(cls, name: str) -> str:
        """Return the message for an option that this kind lacks, naming the kind that has it."""
        owner = next((kind for kind, model in KINDS.items() if name in model.model_fields), None)
        if owner:
            kind = cls.model_fields["kind"].default
            return f"design {kind} has no option {name}; remove it, or use kind: {owner}"
        return f"unknown key; {suggestion(name, cls.model_fields)}"


class Full(_Kind):
    """Every valid combination."""

    kind: Literal["full"] = "full"


class OneAtATime(_Kind):
    """The baseline, then each other level of each factor alone."""

    kind: Literal["one_at_a_time"] = "one_at_a_time"
    from_reference: ClassVar[bool] = True


class LeaveOneOut(_Kind):
    """The levels in `best`, then the same with one factor at a time set back to its baseline level."""

    kind: Literal["leave_one_out"] = "leave_one_out"
    from_reference: ClassVar[bool] = True
    starts_at_best: ClassVar[bool] = True


class Fractional(_Kind):
    """A subset of the full design, large enough to estimate the main effects."""

    kind: Literal["fractional"] = "fractional"
    is_fraction: ClassVar[bool] = True
    cells: Annotated[int, Whole(2, MAX_CELLS)] | None = None
    """Number of cells. Default: the smallest power of two that has two cells per factor and can estimate every main effect."""


class Search(_Kind):
    """A sampler chooses the cells while the study runs; the best are trained again on the other seeds."""

    kind: Literal["search"] = "search"
    sampler: Sampler = "tpe"
    """What proposes the cells."""
    trials: Annotated[int, Whole(1, MAX_CELLS)] = 30
    """How many cells are tried on the first seed, the baseline among them."""
    pruner: Pruner = "median"
    """What stops unpromising trials early, judged by their curves of the study's metric."""
    finalists: Annotated[int, Whole(0, MAX_CELLS)] = 3
    """How many of the best cells are trained again, with the baseline, on the other seeds."""


AnyKind = Full | OneAtATime | LeaveOneOut | Fractional | Search
KINDS: dict[str, type[AnyKind]] = {model.model_fields["kind"].default: model for model in get_args(AnyKind)}


def _spelled_out(value: Any) -> Any:
    """Read `design: full` as `design: {kind: full}`."""
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, dict):
        with Errors() as errors:
            if "kind" not in value:
                errors.add(absent("missing; add e.g. kind: fractional"), "kind")
                known = dict.fromkeys(name for model in KINDS.values() for name in model.model_fields)
                for name in (name for name in value if name not in known):
                    errors.add(f"unknown key; {suggestion(name, known)}", name, KEY)
            elif value["kind"] not in list(KINDS):
                errors.add(one_of("design", value["kind"], KINDS), "kind")
    elif not isinstance(value, _Kind):
        raise expected(f"one of {', '.join(KINDS)}")
    return value


Kind = Annotated[
    AnyKind,
    Field(discriminator="kind"),
    BeforeValidator(
        _spelled_out,
        json_schema_input_type=Annotated[str, Field(json_schema_extra={"enum": list(KINDS)})] | AnyKind,
    ),
]
