"""JSON Schema of the study file, generated from the models that read it.

What a schema cannot express (conditions, clashes, the trainer's own settings) is checked by `ablate plan`."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ablate.spec.study_file import StudyFile

Schema = dict[str, Any]
REF = "#/definitions/"


def json_schema() -> Schema:
    """Return the schema, draft 7 (which YAML editors support best)."""
    schema = StudyFile.model_json_schema(ref_template=REF + "{model}", schema_generator=_Unsorted)
    schema["definitions"] = schema.pop("$defs")
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A study of ablate"}
    draft: Schema = _draft_7(schema)
    return head | draft


class _Unsorted(GenerateJsonSchema):
    """Keeps keys in the order of the models; pydantic would sort them, even inside examples."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value


def _draft_7(schema: Any) -> Any:
    """Return a schema without pydantic's titles, and in draft 7, which ignores every key beside a $ref."""
    if isinstance(schema, list):
        return [_draft_7(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _draft_7(value) for key, value in schema.items() if not _is_noise(key, value)}
    # A default of null means that the key may be left out. A file must not say null, so null is removed from the union.
    if schema.get("default", "") is None:
        plain |= plain.pop("anyOf")[0]
    elif all(member.keys() == {"type"} for member in plain.get("anyOf", [{}])):
        plain["type"] = [member["type"] for member in plain.pop("anyOf")]
    if "$ref" in plain and len(plain) > 1:
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain


def _is_noise(key: str, value: Any) -> bool:
    return (
        (key == "title" and isinstance(value, str))
        or key == "discriminator"
        or (key, value) == ("default", None)
    )
