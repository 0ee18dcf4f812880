"""What a merged declaration asks of a pod, as arguments of the batch operator.

Decides how the words of a declaration map to those of the pod operator. Pure: no Airflow, no Kubernetes client, so that
the command line can explain a pod without either.
"""

from __future__ import annotations

from typing import Any

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.jobs import MAIN_JOB, job_name
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.standard_runtime import STANDARD_COMMAND
from airflow_mlops_provider.manifests.batch_pod import BASE_CONTAINER, build_resources
from airflow_mlops_provider.manifests.naming import DECLARATION_ANNOTATION, ownership_labels


def build_pod_arguments(model: EnvironmentModel, batch: BatchSpec, kind: str = MAIN_JOB) -> dict[str, Any]:
    """Return keyword arguments of :class:`~airflow_mlops_provider.operators.mlflow.MLflowModelBatchOperator`.

    Values are JSON types; what is not asked for is left out.
    """
    settings = model.settings
    resources = batch.resources
    credentials = settings.mlflow_credentials
    arguments: dict[str, Any] = {
        "name": "-".join(filter(None, (model.environment, model.model, job_name(kind)))),
        "namespace": settings.namespace,
        "image": batch.image or settings.image,
        "image_pull_policy": settings.image_pull_policy,
        "cmds": list(batch.command or ([] if batch.image else STANDARD_COMMAND)),
        "arguments": list(batch.args or ()),
        "env_vars": program_variables(model, batch),
        "container_resources": build_resources(resources.cpu, resources.memory, resources.gpu),
        "node_selector": dict(settings.node_selector),
        "tolerations": [item.model_dump(by_alias=True, exclude_none=True) for item in settings.tolerations],
        "service_account_name": settings.service_account,
        "image_pull_secrets": ",".join(settings.image_pull_secrets),
        "labels": ownership_labels(model.model, model.environment, job=job_name(kind), ephemeral=settings.ephemeral),
        "annotations": {DECLARATION_ANNOTATION: model.file},
        "mlflow_credentials": credentials.model_dump(exclude_defaults=True) if credentials else None,
        "pod_template_dict": _template(model, batch),
        "tracking_uri": settings.mlflow_tracking_uri,
        "kubernetes_conn_id": settings.connections.kubernetes,
        "deferrable": settings.deferrable,
    }
    return {name: value for name, value in arguments.items() if value not in (None, "", [], {})}


def _template(model: EnvironmentModel, batch: BatchSpec) -> dict[str, Any] | None:
    """Return the pod that the operator lays its own over."""
    if batch.extends is None:
        return None
    template = model.settings.templates[batch.extends]
    mounts = [dict(item) for item in template.mounts]
    return {"spec": {**template.spec, "containers": [{"name": BASE_CONTAINER, "volumeMounts": mounts}]}}


def program_variables(model: EnvironmentModel, batch: BatchSpec) -> dict[str, str]:
    """Return the declared variables of the program: the platform's, the declaration's, and how the runtime scores."""
    scoring = {
        "MLOPS_KEY_COLUMNS": ",".join(batch.key_columns),
        "MLOPS_INPUT_FORMAT": batch.format or "",
        "MLOPS_OUTPUT_FORMAT": batch.format or "",
    }
    return {**model.settings.env, **batch.env, **{name: value for name, value in scoring.items() if value}}
