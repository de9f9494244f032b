"""Write study_file.md, the reference of the study file, from its JSON Schema: `python docs/reference.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.spec.rules import flow
from ablate.spec.schema import REF, Schema, json_schema


def reference_page() -> str:
    """Return the reference of the study file as markdown: a table of its keys, then one for each mapping inside."""
    schema = json_schema()
    lines = [
        "# The study file",
        "",
        "<!-- Generated from the models in ablate/spec by `python docs/reference.py`; do not edit. -->",
        "",
        f"{schema['description']} Keys without a default are required.",
        "",
        *_table(schema),
    ]
    for path, part in _parts(schema, schema["definitions"], ""):
        lines += ["", f"## `{path}`", "", part["description"], "", *_table(part)]
    return "\n".join(lines) + "\n"


def _parts(schema: Any, definitions: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield the path in the file and the schema of each mapping with keys of its own."""
    if isinstance(schema, list):
        for inner in schema:
            yield from _parts(inner, definitions, path)
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
    Path(__file__).with_name("study_file.md").write_text(reference_page(), encoding="utf-8")
