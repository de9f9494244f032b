"""A trainer and studies of a few lines for the tests of `ablate.design`."""

from types import ModuleType
from typing import Literal

from pydantic import BaseModel, Field

from ablate.contract import Trainer
from ablate.design.cells import build_design
from ablate.design.model import Cell, Design
from ablate.spec.model import Scalar, StudySpec
from ablate.spec.reading import parse_study


class Rates(BaseModel):
    encoder: float = Field(0.1, gt=0)
    heads: float = Field(0.1, gt=0)


class Settings(BaseModel):
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    mode: Literal["one", "many"] = "one"
    lr: Rates = Field(default_factory=Rates)


def toy_trainer(settings: type[BaseModel] = Settings, **optional: object) -> Trainer:
    module = ModuleType("toy")
    module.__dict__.update(
        __file__=__file__, Settings=settings, train=lambda settings, context: {}, **optional
    )
    return Trainer(module)


def study(factors: str, baseline: str, design: str = "full", more: str = "") -> StudySpec:
    return parse_study(
        f"study: s\ntrainer: toy\nfactors: {factors}\nbaseline: {baseline}\ndesign: {design}\n"
        f"seeds: [1, 2]\nmetric: {{name: m}}\n{more}"
    )


def design_of(factors: str, baseline: str, design: str = "full", more: str = "") -> Design:
    return build_design(study(factors, baseline, design, more), toy_trainer())


def levels(cells: tuple[Cell, ...] | list[Cell]) -> list[dict[str, Scalar]]:
    return [cell.levels for cell in cells]
