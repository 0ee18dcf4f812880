"""What is left of a declaration without the fields that do not exist.

Decides when enough is left to ask what the environment allows, so that a misspelt name does not hide what else is
wrong. No I/O.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from airflow_mlops_provider.declaration.model import ModelDeclaration
from airflow_mlops_provider.declaration.node import MappingNode
from airflow_mlops_provider.declaration.union import is_kind


def known_part(merged: MappingNode) -> ModelDeclaration | None:
    """Return the declaration without its unknown fields, or None where more than those is wrong."""
    plain = merged.plain()
    try:
        return ModelDeclaration.model_validate(plain)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
    if any(detail["type"] != "extra_forbidden" for detail in details):
        return None
    for detail in details:
        _remove(plain, [step for step in detail["loc"] if not is_kind(step)])
    try:
        return ModelDeclaration.model_validate(plain)
    except ValidationError:
        return None


def _remove(plain: Any, path: list[str | int]) -> None:
    for step in path[:-1]:
        plain = plain[step]
    plain.pop(path[-1], None)
