"""The study file as people write it, shorthands included; its JSON Schema is generated from this model."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from ablate.spec.addresses import check_address, put
from ablate.spec.factors import Factors
from ablate.spec.model import Keys
from ablate.spec.rules import KEY, Errors, fault, write
from ablate.spec.seeds import SeedsOrPlan


def _nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as nested mappings; keys with dots are split."""
    nested: dict[str, Any] = {}
    with Errors() as errors:
        for address, value in settings.items():
            with errors.under(address, KEY):
                check_address(address)
                if not put(nested, address, value):
                    raise fault("overlaps a setting above; give each setting once")
    return nested


class StudyFile(Keys):
    """A study: what is varied, from which baseline, with which seeds, and which metric decides."""

    settings: Annotated[
        dict[str, Any],
        AfterValidator(_nested),
        write("a mapping from settings to values"),
        BeforeValidator(
            lambda value: {} if value is None else value, json_schema_input_type=dict[str, Any] | None
        ),
    ] = Field(default_factory=dict)
    """Settings that do not vary, nested or with dots. A key here cannot also be a factor."""
    factors: Factors = Field(examples=[{"l2": [0.0, 0.01]}])
    """What is varied: for each factor, a list of levels, or a mapping with levels and only_when."""
    seeds: SeedsOrPlan = Field(examples=[[11, 22, 33]])
    """Every cell is trained once per seed: a list, or a plan that adds seeds after looks at the results."""

    @field_validator("*", mode="after")
    @classmethod
    def _keep(cls, value: Any, info: ValidationInfo[dict[str, Any]]) -> Any:
        """Keep each valid key, so that the valid ones are checked against each other even if others are wrong."""
        info.context[str(info.field_name)] = value
        return value
