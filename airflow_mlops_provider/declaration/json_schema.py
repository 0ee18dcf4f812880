"""The JSON Schemas that editors use, generated from the same models that validate.

Decides how the models' rules are told to an editor: null means «not written» for every field that has a default. What
depends on several fields or on the environment stays with ``airflow-mlops validate``. No I/O.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from airflow_mlops_provider.declaration.environment import EnvironmentsFile
from airflow_mlops_provider.declaration.model import ModelFile

#: Where the package ships them.
SCHEMA_DIRECTORY: Final = Path(__file__).parent / "schema"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FILES: dict[str, tuple[type[BaseModel], str]] = {
    "model.v1.json": (ModelFile, "A model: models/<name>.yaml (mlops/v1)"),
    "environments.v1.json": (EnvironmentsFile, "The platform's environments.yaml (mlops/v1)"),
}


def render_schemas() -> dict[str, str]:
    """Return the text of each schema by file name."""
    return {name: _render(model, title) for name, (model, title) in _FILES.items()}


def _render(model: type[BaseModel], title: str) -> str:
    schema = model.model_json_schema(mode="validation", by_alias=True)
    for definition in (schema, *schema.get("$defs", {}).values()):
        _accept_null(definition)
    document = {"$schema": _DIALECT, **schema, "title": title}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


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
