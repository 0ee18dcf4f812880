"""Run and serve MLflow models from Airflow.

The package root decides only which names are public and imports none of them until they are asked for (PEP 562):
a DAG file pays for what it uses. It does no I/O.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlops_provider.dag_factory.loader import load_model_dags

__version__ = "0.1.0"

__all__ = ["__version__", "load_model_dags"]

_LAZY = {"load_model_dags": "airflow_mlops_provider.dag_factory.loader"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
