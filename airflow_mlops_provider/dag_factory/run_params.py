"""The trigger form's fields that choose another model than the declaration does.

Decides their names, which ``operators.model_task.override_selector`` reads, and when they are offered. No I/O.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from airflow_mlops_provider.declaration.loader import EnvironmentModel


def model_params(model: EnvironmentModel, *, verb: str) -> dict[str, Any]:
    """Return the fields by name; each may stay empty, which means what the declaration says.

    :param verb: what is done with the model: ``Run`` or ``Deploy``.
    """
    text: dict[str, Any] = {"type": ["null", "string"]}
    told = {
        "model_version": ("Model version", f"{verb} this registered version instead."),
        "model_alias": ("Model alias", f"{verb} the version with this alias instead."),
        "model_run_id": ("MLflow run ID", f"{verb} the model of this MLflow run instead."),
    }
    if not model.declaration.registered_model:
        told = {"model_run_id": told["model_run_id"]}
    return {name: Param(None, title=title, description=what, **text) for name, (title, what) in told.items()}
