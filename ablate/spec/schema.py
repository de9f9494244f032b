"""JSON Schema of the study file, made from the models that read it.

What a schema cannot say (conditions, clashes, the trainer's own settings) is checked by `ablate plan`."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ablate.spec.study_file import StudyFile

Schema = dict[str, Any]
REF = "#/definitions/"


def json_schema() -> Schema:
    """Return the schema, draft 7 (which YAML editors know best)."""
    schema = StudyFile.model_json_schema(ref_template=REF + "{model}", schema_generator=_Unsorted)
    schema["definitions"] = schema.pop("$defs")
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A study of ablate"}
    draft: Schema = _draft_7(schema)
    return head | draft


class _Unsorted(GenerateJsonSchema):
    """Keeps keys in the order of the models: pydantic sorts them, those of examples too."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


def _draft_7(schema: Any) -> Any:
    """Return a schema without pydantic's titles, and in draft 7, which ignores what stands beside a $ref."""
    if isinstance(schema, list):
        return [_draft_7(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _draft_7(value) for key, value in schema.items() if not _is_noise(key, value)}
    if schema.get("default", "") is None:  # null stands for a key that is left out; a file has none
        plain |= plain.pop("anyOf")[0]
    elif all(one.keys() == {"type"} for one in plain.get("anyOf", [{}])):
        plain["type"] = [one["type"] for one in plain.pop("anyOf")]
    if "$ref" in plain and len(plain) > 1:
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain


def _is_noise(key: str, value: Any) -> bool:
    return (
        (key == "title" and isinstance(value, str))
        or key == "discriminator"
        or (key, value) == ("default", None)
    )
