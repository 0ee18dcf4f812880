"""What Airflow reads about this provider: the connection type with its form, and the classes.

Decides the form's fields; :mod:`airflow_mlops_provider.hooks.mlflow` reads them. Plain data, no I/O, imports nothing:
Airflow's API server reads it without importing a hook. Schema: ``airflow/provider.yaml.schema.json`` (3.3).
"""

from __future__ import annotations

from typing import Any

_MLFLOW_HOOK = "airflow_mlops_provider.hooks.mlflow.MLflowHook"


def get_provider_info() -> dict[str, Any]:
    """Return the dictionary that Airflow's entry point ``apache_airflow_provider`` asks for."""
    return {
        "package-name": "airflow-mlops-provider",
        "name": "MLOps",
        "description": "Run and serve MLflow models: resolve a tagged run, pin it, apply it, trace it.",
        "integrations": [
            {"integration-name": "MLflow", "external-doc-url": "https://mlflow.org/docs/latest/", "tags": ["service"]},
            {
                "integration-name": "KServe",
                "external-doc-url": "https://kserve.github.io/website/",
                "tags": ["service"],
            },
        ],
        "hooks": [{"integration-name": "MLflow", "python-modules": ["airflow_mlops_provider.hooks.mlflow"]}],
        "sensors": [{"integration-name": "KServe", "python-modules": ["airflow_mlops_provider.sensors.kserve"]}],
        "triggers": [
            {
                "integration-name": "KServe",
                "python-modules": [
                    "airflow_mlops_provider.triggers.kserve",
                    "airflow_mlops_provider.triggers.kserve_canary",
                ],
            }
        ],
        "operators": [
            {
                "integration-name": "MLflow",
                "python-modules": [
                    "airflow_mlops_provider.operators.local",
                    "airflow_mlops_provider.operators.mlflow",
                    "airflow_mlops_provider.operators.resolve",
                ],
            },
            {
                "integration-name": "KServe",
                "python-modules": [
                    "airflow_mlops_provider.operators.kserve",
                    "airflow_mlops_provider.operators.kserve_canary",
                    "airflow_mlops_provider.operators.kserve_delete",
                    "airflow_mlops_provider.operators.kserve_deploy",
                    "airflow_mlops_provider.operators.kserve_predict",
                ],
            },
        ],
        "connection-types": [_mlflow_connection()],
        "extra-links": [
            "airflow_mlops_provider.links.mlflow.MLflowRunLink",
            "airflow_mlops_provider.links.mlflow.MLflowModelLink",
            "airflow_mlops_provider.links.kserve.KServeEndpointLink",
        ],
        "config": {
            "mlops": {
                "description": "Where the platform's rules lie.",
                "options": {
                    "environments_file": {
                        "description": "The platform's environments.yaml, kept where a branch cannot write it. "
                        "Without it, the nearest one above each declaration counts.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/etc/airflow/environments.yaml",
                        "default": "",
                    }
                },
            }
        },
    }


def _mlflow_connection() -> dict[str, Any]:
    return {
        "connection-type": "mlflow",
        "hook-class-name": _MLFLOW_HOOK,
        "hook-name": "MLflow",
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port"],
            "relabeling": {"host": "Tracking URI", "login": "Username", "password": "Password"},
            "placeholders": {
                "host": "https://mlflow.example:5000",
                "login": "of a server with basic authentication",
                "password": "with a username; without one it is used as bearer token",
            },
        },
        "conn-fields": {
            "token": _field("Bearer token", "Used instead of username and password.", format="password"),
            "ca_cert": _field("TLS CA certificate", "PEM file on the workers, or the PEM text.", format="multiline"),
            "client_cert": _field("TLS client certificate", "PEM file on the workers; it may hold the key as well."),
            "client_key": _field("TLS client key", "PEM file on the workers."),
            "workspace": _field("Workspace", "Only for a server that has workspaces; others refuse the header."),
            "service_account_token": _field(
                "Kubernetes service-account token",
                "Send the token that Kubernetes mounts into the worker's pod.",
                kind="boolean",
            ),
            "timeout_seconds": _field("Seconds for one request", "10 unless given.", kind="number", minimum=0.1),
            "total_seconds": _field("Seconds for one resolution", "Retries included; 30 unless given.", kind="number"),
        },
    }


def _field(label: str, description: str, *, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}
