"""The reference page of both files, generated from the JSON Schemas: every field, what may stand there, its default.

Decides the wording of types and the order of sections. What fields mean is said where they are defined. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops_provider.declaration.json_schema import build_schemas

_HEAD = """\
# Reference of declarations

Generated from the schema by `airflow-mlops schema --markdown`; do not edit. What the fields are for, and examples:
[declarations.md](declarations.md). Every field that is not required may also be `null`, which means the default; in an
environment of a model, `null` takes away what the model itself says.
"""
#: Pydantic's name for whatever JSON can say.
_ANY = "JsonValue"
_PLAIN = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def render_reference() -> str:
    """Return the page as Markdown."""
    return "\n".join([_HEAD, *(line for schema in build_schemas().values() for line in _file(schema))])


def _file(schema: dict[str, Any]) -> Iterator[str]:
    definitions: dict[str, Any] = schema.get("$defs", {})
    meanings = {f"#/$defs/{name}": definition.get("description", "") for name, definition in definitions.items()}
    yield f"## {_cell(schema['title'])}\n"
    yield from _table(schema, meanings)
    for name, definition in sorted(definitions.items()):
        if name == _ANY:
            continue
        yield f"### {name}\n"
        if "description" in definition:
            yield _cell(definition["description"]) + "\n"
        yield from _table(definition, meanings)


def _table(definition: dict[str, Any], meanings: Mapping[str, str]) -> Iterator[str]:
    yield "| field | what may stand there | default | meaning |\n|---|---|---|---|"
    for name, prop in definition.get("properties", {}).items():
        default = "required" if name in definition.get("required", ()) else _default(prop)
        meaning = prop.get("description") or next(
            (meanings[part["$ref"]] for part in (prop, *prop.get("anyOf", ())) if "$ref" in part), ""
        )
        yield f"| `{name}` | {_type(prop)} | {default} | {_cell(meaning)} |"
    yield ""


def _default(prop: dict[str, Any]) -> str:
    default = prop.get("default")
    if default in (None, [], {}, ""):
        return "–"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _type(prop: dict[str, Any]) -> str:
    if "$ref" in prop:
        name = prop["$ref"].rpartition("/")[2]
        return "any value" if name == _ANY else f"[{name}](#{name.lower()})"
    if alternatives := _alternatives(prop):
        return " or ".join(dict.fromkeys(_type(part) for part in alternatives))
    if "const" in prop or "enum" in prop:
        return ", ".join(f"`{value}`" for value in prop.get("enum", [prop.get("const")]))
    if "examples" in prop:
        return "text such as " + ", ".join(f"`{value}`" for value in prop["examples"])
    return _container(prop) or _PLAIN.get(prop.get("type", ""), "anything") + _range(prop, "imum", "")


def _alternatives(prop: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a field may be besides null."""
    return [part for part in prop.get("anyOf", ()) if part != {"type": "null"}]


def _container(prop: dict[str, Any]) -> str | None:
    if prop.get("type") == "array":
        return f"list of {_type(prop.get('items', {}))}{_range(prop, 'Items', ' entries')}"
    if prop.get("type") == "object":
        values: dict[str, Any] = prop.get("additionalProperties") or next(
            iter(prop.get("patternProperties", {}).values()), {}
        )
        return f"mapping of names to {_type(values)}{_range(prop, 'Properties', ' entries')}"
    return None


def _range(prop: dict[str, Any], suffix: str, unit: str) -> str:
    least, most = prop.get(f"min{suffix}"), prop.get(f"max{suffix}")
    if least is None and most is None:
        return ""
    if most is None:
        return f", at least {least}{unit if least != 1 else unit.replace('entries', 'entry')}"
    return f", {least} to {most}{unit}" if least is not None else f", at most {most}{unit}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")
