"""The JSON Schemas that editors use, generated from the same models that validate.

Decides how the models' rules are told to an editor: null means «not written» for every field that has a default. What
depends on several fields or on the environment stays with ``airflow-mlops validate``. No I/O.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from airflow_mlops_provider.declaration.model import ModelFile
from airflow_mlops_provider.declaration.pod_template import EnvironmentsDocument

#: Where the package ships them.
SCHEMA_DIRECTORY: Final = Path(__file__).parent / "schema"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Its definitions describe what is laid over a model, and need not be whole.
_OVERLAY = "ModelOverlay"
_FILES: dict[str, tuple[type[BaseModel], str]] = {
    "model.v1.json": (ModelFile, "A model: models/<name>.yaml (mlops/v1)"),
    "environments.v1.json": (EnvironmentsDocument, "The platform's environments.yaml (mlops/v1)"),
}


def render_schemas() -> dict[str, str]:
    """Return the text of each schema by file name."""
    texts = {}
    for name, schema in build_schemas().items():
        if _OVERLAY in schema.get("$defs", {}):
            _loosen_overlays(schema["$defs"])
        texts[name] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return texts


def build_schemas() -> dict[str, dict[str, Any]]:
    """Return each schema by file name, an environment's overlay as strict as the model it is laid over."""
    return {name: _build(model, title) for name, (model, title) in _FILES.items()}


def _build(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema: dict[str, Any] = _any_of(model.model_json_schema(mode="validation", by_alias=True))
    for definition in (schema, *schema.get("$defs", {}).values()):
        _accept_null(definition)
    return {"$schema": _DIALECT, **schema, "title": title}


def _any_of(schema: Any) -> Any:
    """Return the schema with ``anyOf`` for ``oneOf``: what does not name its kind may satisfy several members."""
    if isinstance(schema, list):
        return [_any_of(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if key == "oneOf" else key: _any_of(value) for key, value in schema.items()}


def _loosen_overlays(definitions: dict[str, Any]) -> None:
    """Let an overlay write part of what is required of the whole: ``schedule: {timezone: Asia/Tokyo}``."""
    strict = {name for name, definition in definitions.items() if definition.get("required")}
    reached = _referenced(definitions, _OVERLAY, {_OVERLAY})
    while more := {
        name for name in reached - strict if any(_reference(other) in json.dumps(definitions[name]) for other in strict)
    }:
        strict |= more
    renamed = {_reference(name): _reference(f"{name}Overlay") for name in (strict & reached) - {_OVERLAY}}
    for name in sorted(strict & reached):
        loosened = _renamed(definitions[name], renamed)
        for field in loosened.pop("required", ()):
            loosened["properties"][field] = _or_null(loosened["properties"][field])
        for prop in loosened["properties"].values():
            _let_entries_be_taken_away(prop)
        definitions[name if name == _OVERLAY else f"{name}Overlay"] = loosened


def _let_entries_be_taken_away(prop: dict[str, Any]) -> None:
    """Accept null as an entry's value: ``env: {MODE: null}``."""
    for part in (prop, *prop.get("anyOf", ())):
        for kind in ("additionalProperties", "patternProperties"):
            entries = part.get(kind)
            if kind == "additionalProperties" and isinstance(entries, dict):
                part[kind] = _or_null(entries)
            elif isinstance(entries, dict):
                part[kind] = {pattern: _or_null(value) for pattern, value in entries.items()}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _referenced(definitions: dict[str, Any], name: str, found: set[str]) -> set[str]:
    """Return the names of all definitions that one needs, itself included."""
    text = json.dumps(definitions.get(name, {}))
    for other in definitions:
        if other not in found and _reference(other) in text:
            found.add(other)
            _referenced(definitions, other, found)
    return found


def _reference(name: str) -> str:
    """Return how JSON refers to a definition, quotes included: no name is the start of another then."""
    return f'"#/$defs/{name}"'


def _renamed(definition: Any, renamed: dict[str, str]) -> Any:
    text = json.dumps(definition)
    for before, after in renamed.items():
        text = text.replace(before, after)
    return json.loads(text)


def _accept_null(definition: dict[str, Any]) -> None:
    required = definition.get("required", ())
    properties: dict[str, Any] = definition.get("properties", {})
    for name, prop in properties.items():
        prop.pop("title", None)
        alternatives = prop.get("anyOf", [])
        if name in required or {"type": "null"} in alternatives:
            continue
        told = {key: prop.pop(key) for key in ("description", "default") if key in prop}
        properties[name] = {**told, "anyOf": [*(alternatives or [prop]), {"type": "null"}]}
