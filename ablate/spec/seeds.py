"""The `seeds:` of a study file: a list, or a plan that adds seeds after looks at the results.

An example of a plan: `{start: [11, 22, 33], at_most: 12, until: decided}`."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from ablate.spec.model import Looking
from ablate.spec.rules import Errors, Positive, Whole, Written, expected, fault, write

# The largest seed of NumPy's generator; torch takes larger ones.
MAX_SEED = 2**32 - 1
MOST_SEEDS = 1000
# The fewest seeds at a look: with one seed, the noise cannot be estimated.
LEAST_SEEDS = 2
MORE_SEEDS = (
    "more seeds need a new study with fresh seeds: a list, or looks planned from the start (seeds: {start: [101, 102, 103], "
    "at_most: 12}); adding seeds to this study because of its results raises the rate of false positives"
)


def _distinct(seeds: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Refuse a seed that is given twice, and report it together with the faults of the others."""
    if not isinstance(seeds, list) or not seeds:
        raise expected("a list of whole numbers, e.g. [11, 22, 33]")
    read, first = None, dict[int, int]()
    with Errors() as errors:
        with errors.under():
            read = handler(seeds)
        for index, seed in enumerate(seeds):
            if type(seed) is int and first.setdefault(seed, index) != index:
                other = f"{info.field_name}[{first[seed]}]"
                errors.add(f"seed {seed} is given twice (see {other}); keep one", index)
    return read


Seed = Annotated[int, Whole(0, MAX_SEED)]
ListedSeeds = Annotated[
    tuple[Seed, ...],
    Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
    WrapValidator(_distinct),
]


class Width(Written):
    """How narrow the intervals must become."""

    width: Positive = Field(examples=[0.01])
    """Width of every comparison's 95 % interval, in the metric's unit."""


# pydantic puts the tags into the locations of errors. The brackets distinguish them from the keys of a file.
BY_SHAPE = Discriminator(lambda value: "[mapping]" if isinstance(value, dict) else "[other]")
End = Annotated[
    Annotated[Literal["decided"], write("decided, or {width: 0.01}"), Tag("[other]")]
    | Annotated[Width, Tag("[mapping]")],
    BY_SHAPE,
]


Looks = Annotated[list[Annotated[int, Whole(LEAST_SEEDS, MOST_SEEDS)]], Field(min_length=1)]


class AddedSeeds(Written):
    """A plan that adds seeds after looks at the results."""

    start: ListedSeeds = Field(examples=[[11, 22, 33]])
    """The seeds that are always run; added seeds are the numbers after them."""
    at_most: Annotated[int, Whole(LEAST_SEEDS, MOST_SEEDS)] = Field(examples=[12])
    """The largest number of seeds."""
    until: End = "decided"
    """When to stop: when every comparison is decided, or when every 95 % interval is narrow enough."""
    looks: Annotated[tuple[int, ...], BeforeValidator(lambda value: value, json_schema_input_type=Looks)] = ()
    """Numbers of seeds after which to look at the results, in increasing order. Default: 1.5 times as many each time."""

    @field_validator("at_most", mode="before")
    @classmethod
    def _more_than_start(cls, at_most: Any, info: ValidationInfo) -> Any:
        return Whole(len(info.data.get("start", ())) + 1, MOST_SEEDS)(at_most)

    @field_validator("looks", mode="before")
    @classmethod
    def _rising(cls, looks: Any, info: ValidationInfo) -> tuple[int, ...]:
        """Return rising numbers of seeds, the last of them `at_most`."""
        least = max(LEAST_SEEDS, len(info.data.get("start", ())))
        at_most = info.data.get("at_most", MOST_SEEDS)
        if not isinstance(looks, list) or not looks:
            raise expected(f"a list of numbers of seeds, e.g. [{least}, {at_most}]")
        rising: list[int] = []
        with Errors() as errors:
            for index, look in enumerate(looks):
                with errors.under(index):
                    Whole(least, at_most)(look)
                    if rising and look <= rising[-1]:
                        raise fault(f"found {look} after {rising[-1]}; write rising numbers of seeds")
                    rising.append(look)
        return tuple(rising if rising[-1] == at_most else [*rising, at_most])

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that may be run."""
        return self.start + further_seeds(self.start, self.at_most - len(self.start))

    @property
    def looking(self) -> Looking:
        """When the results are looked at, and when no more seeds are added."""
        looks = self.looks or default_looks(len(self.start), self.at_most)
        width = self.until.width if isinstance(self.until, Width) else None
        return Looking(start=len(self.start), looks=looks, width=width)


SeedsOrPlan = Annotated[
    Annotated[ListedSeeds, Tag("[other]")] | Annotated[AddedSeeds, Tag("[mapping]")], BY_SHAPE
]


def further_seeds(start: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the numbers that follow the largest of `start` and are not in it; after the largest seed comes 0."""
    following = (number % (MAX_SEED + 1) for number in itertools.count(max(start) + 1))
    return tuple(itertools.islice((seed for seed in following if seed not in start), count))


def default_looks(start: int, at_most: int) -> tuple[int, ...]:
    """Return the looks of a file that names none: after `start` seeds, then after 1.5 times as many each time, rounded up."""
    looks = [max(start, LEAST_SEEDS)]
    while looks[-1] < at_most:
        looks.append(min(looks[-1] + (looks[-1] + 1) // 2, at_most))
    return tuple(looks)
