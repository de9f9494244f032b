"""JSON Schema of the study file as people write it, shorthands included: editors complete and check with it.

What a schema cannot say (conditions, clashes, the trainer's own settings) is checked by `ablate plan`."""

from typing import Any, get_args

from ablate.spec import looking
from ablate.spec.fields import FACTOR_NAME, MAX_FACTOR_NAME, MAX_SEED, STUDY_NAME, TRAINER_NAME
from ablate.spec.model import Design, Pruner, Sampler, Search
from ablate.spec.reading import REQUIRED

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return the schema, draft 7 (which YAML editors know best)."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A study of ablate",
        "description": "Which choices are varied, from where, with which seeds, and what decides.",
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED),
        "properties": _properties(),
        "definitions": {
            "scalar": {"type": ["string", "number", "boolean", "null"]},
            "choice": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{FACTOR_NAME}$"},
                "additionalProperties": {"$ref": "#/definitions/scalar"},
            },
            "levels": _levels(),
            "factor": _factor(),
        },
    }


def _properties() -> Schema:
    return {
        "study": _described(
            "Name of the study and of its folder: letters, digits, '_', '-', '.'.",
            {"type": "string", "pattern": f"^{STUDY_NAME}$"},
        ),
        "question": _described("What the study should answer; the report opens with it.", {"type": "string"}),
        "trainer": _described(
            "The module that trains: ablate.trainer, or your own beside this file.",
            {"type": "string", "pattern": f"^{TRAINER_NAME}$", "examples": ["ablate.trainer", "my_trainer"]},
        ),
        "settings": _described(
            "What does not vary, nested or with dots. A key here cannot be a factor too.",
            {"type": ["object", "null"]},
        ),
        "factors": _described(
            "What is varied: a list of levels, or a mapping with levels and only_when.",
            {
                "type": "object",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{FACTOR_NAME}$", "maxLength": MAX_FACTOR_NAME},
                "additionalProperties": {"$ref": "#/definitions/factor"},
            },
        ),
        "baseline": _described(
            "A level for every factor that exists under it; differences are taken from here.",
            {"$ref": "#/definitions/choice"},
        ),
        "best": _described(
            "Expected to be best: a cell more for one_at_a_time, the start of leave_one_out.",
            {"$ref": "#/definitions/choice"},
        ),
        "design": _described("Which combinations are run.", _design()),
        "seeds": _described(
            "Every cell is trained once per seed: a list, or a plan that adds seeds after looks at the results.",
            {"oneOf": [_seeds(), _looking()]},
        ),
        "metric": _described("What decides.", _metric()),
        "budget": _described("What the study may cost; `ablate plan` compares.", _budget()),
        "checkpoint_seconds": _described(
            "How often a trial saves its state; 60 when left out.", {"type": "number", "exclusiveMinimum": 0}
        ),
        "hang_minutes": _described(
            "A training that reported a point or a step and then nothing for so long is ended, and goes on from its "
            "last checkpoint; 60 when left out.",
            {"type": "number", "exclusiveMinimum": 0},
        ),
    }


def _described(description: str, schema: Schema) -> Schema:
    if "$ref" in schema:  # draft 7 ignores what stands beside a $ref
        return {"description": description, "allOf": [schema]}
    return {"description": description, **schema}


def _design() -> Schema:
    kinds = list(get_args(Design))
    search = {name: info.default for name, info in Search.model_fields.items()}
    sized = {
        "type": "object",
        "additionalProperties": False,
        "required": ["kind"],
        "properties": {
            "kind": {"enum": kinds},
            "cells": _described(
                "How many cells a fractional design has.",
                {"type": "integer", "minimum": 2, "maximum": 100_000},
            ),
            "sampler": _described(
                f"What proposes the cells of a search; {search['sampler']} when left out.",
                {"enum": list(get_args(Sampler))},
            ),
            "trials": _described(
                f"How many cells a search tries; {search['trials']} when left out.",
                {"type": "integer", "minimum": 1, "maximum": 100_000},
            ),
            "pruner": _described(
                f"What gives up hopeless trials of a search; {search['pruner']} when left out.",
                {"enum": list(get_args(Pruner))},
            ),
            "finalists": _described(
                f"How many cells of a search are trained on the other seeds; {search['finalists']} when left out.",
                {"type": "integer", "minimum": 0, "maximum": 100_000},
            ),
        },
    }
    return {"oneOf": [{"enum": kinds}, sized]}


def _seeds() -> Schema:
    return {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
    }


def _looking() -> Schema:
    width = {
        "type": "object",
        "additionalProperties": False,
        "required": ["width"],
        "properties": {"width": {"type": "number", "exclusiveMinimum": 0}},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(looking.REQUIRED),
        "properties": {
            "start": _described(
                "The seeds that are run in any case; the others are numbers after them.", _seeds()
            ),
            "at_most": _described(
                "How many seeds are ever run.",
                {"type": "integer", "minimum": 2, "maximum": looking.MOST_SEEDS},
            ),
            "until": _described(
                "What ends it: every comparison decided, or its 95 % interval this narrow; decided when left out.",
                {"oneOf": [{"const": looking.DECIDED}, width]},
            ),
            "looks": _described(
                "Numbers of seeds at which results are looked at, rising; half as many again each time when left out.",
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "integer",
                        "minimum": looking.LEAST_SEEDS,
                        "maximum": looking.MOST_SEEDS,
                    },
                },
            ),
        },
    }


def _metric() -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {
            "name": _described(
                "As the trainer names it.", {"type": "string", "minLength": 1, "maxLength": 128}
            ),
            "goal": _described("maximize when left out.", {"enum": ["maximize", "minimize"]}),
            "smallest_effect": _described(
                "The smallest difference that would matter, in the metric's unit.",
                {"type": "number", "exclusiveMinimum": 0},
            ),
            "worst": _described(
                "The worst value that it can have: what a lost trial may have had. Known of our trainer's metrics, of "
                "accuracies and of Pearson's r.",
                {"type": "number"},
            ),
        },
    }


def _budget() -> Schema:
    positive = {"type": "number", "exclusiveMinimum": 0}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "hours": _described("Hours of training.", positive),
            "usd_per_hour": _described("Price of the machine.", positive),
        },
    }


def _levels() -> Schema:
    named = {
        "type": "object",
        "minProperties": 2,
        "additionalProperties": _described(
            "The level's settings by dotted address, or a value of the setting the factor is named after.",
            {},
        ),
    }
    return {"oneOf": [_listed(), named]}


def _factor() -> Schema:
    condition = {
        "oneOf": [
            {"$ref": "#/definitions/scalar"},
            {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/scalar"}},
        ]
    }
    whole = {
        "type": "object",
        "additionalProperties": False,
        "required": ["levels"],
        "properties": {
            "levels": _described("At least two.", {"$ref": "#/definitions/levels"}),
            "only_when": _described(
                "The levels of other factors under which this one exists.",
                {"type": "object", "additionalProperties": condition},
            ),
        },
    }
    return {"oneOf": [_listed(), whole]}


def _listed() -> Schema:
    return {"type": "array", "minItems": 2, "uniqueItems": True, "items": {"$ref": "#/definitions/scalar"}}
