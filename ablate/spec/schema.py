"""JSON Schema and reference page of the study file, both made from the models that read it.

What a schema cannot say (conditions, clashes, the trainer's own settings) is checked by `ablate plan`."""

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ablate.spec.rules import flow
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


def reference_page() -> str:
    """Return the reference of the study file as markdown: a table of keys, then one for each mapping inside."""
    schema = json_schema()
    lines = [
        "# The study file",
        "",
        "<!-- Made from the models in ablate/spec by `python -m ablate.spec.schema`; do not edit. -->",
        "",
        f"{schema['description']} Keys without a default are required.",
        "",
        *_table(schema),
    ]
    for path, part in _parts(schema, schema["definitions"], ""):
        lines += ["", f"## `{path}`", "", part["description"], "", *_table(part)]
    return "\n".join(lines) + "\n"


def _parts(schema: Any, definitions: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield each mapping with keys of its own, with where it stands in the file."""
    if isinstance(schema, list):
        for one in schema:
            yield from _parts(one, definitions, path)
    elif isinstance(schema, dict):
        for name, inner in schema.get("properties", {}).items():
            yield from _parts(inner, definitions, f"{path}.{name}" if path else name)
        if "additionalProperties" in schema:
            yield from _parts(schema["additionalProperties"], definitions, f"{path}.<name>")
        for key in ("anyOf", "allOf", "oneOf"):
            yield from _parts(schema.get(key, []), definitions, path)
        if ref := schema.get("$ref"):
            part = definitions[ref.removeprefix(REF)]
            kind = part["properties"].get("kind", {}).get("const")
            title = f"{path}: {{kind: {kind}}}" if kind else path
            yield title, part
            yield from _parts(part, definitions, path)


def _table(schema: Schema) -> list[str]:
    rows = ["| Key | Meaning | Default | Example |", "|---|---|---|---|"]
    for name, key in schema["properties"].items():
        if "const" not in key:
            meaning = key["description"] + (f" One of {', '.join(key['enum'])}." if "enum" in key else "")
            example = f"`{name}: {flow(key['examples'][0])}`" if "examples" in key else ""
            rows.append(f"| `{name}` | {meaning} | {_default(name, key, schema)} | {example} |")
    return rows if len(rows) > 2 else ["No options."]


def _default(name: str, key: Schema, schema: Schema) -> str:
    if name in schema.get("required", ()):
        return ""
    return f"`{flow(key['default'])}`" if key.get("default") not in (None, "", [], {}) else "none"


if __name__ == "__main__":
    print(reference_page(), end="")
