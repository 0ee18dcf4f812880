"""What people wrote: values without behaviour, read from YAML or built in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration.environment import Environment, Environments
    from airflow_mlops_provider.declaration.loader import (
        EnvironmentModel,
        find_environments,
        load_declaration,
        load_environments,
    )

__all__ = [
    "Environment",
    "EnvironmentModel",
    "Environments",
    "ModelSelector",
    "ResolvedModel",
    "find_environments",
    "load_declaration",
    "load_environments",
]

_PACKAGE = "airflow_mlops_provider.declaration"
# Whoever only needs a selector does not pay for pydantic and yaml.
_LAZY = {
    "Environment": f"{_PACKAGE}.environment",
    "Environments": f"{_PACKAGE}.environment",
    "EnvironmentModel": f"{_PACKAGE}.loader",
    "find_environments": f"{_PACKAGE}.loader",
    "load_declaration": f"{_PACKAGE}.loader",
    "load_environments": f"{_PACKAGE}.loader",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
