"""The InferenceService of an online service before it is deployed, with marks where only a running task knows.

Decides the marks. The service itself is built from the same arguments as the operator's, by
``manifests.inference_service``. Pure: no Airflow, no Kubernetes client.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import Any

from airflow_mlops_provider.dag_factory.online_arguments import build_service_arguments
from airflow_mlops_provider.dag_factory.pod_preview import LATER
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.online_spec import OnlineSpec
from airflow_mlops_provider.manifests.contract import build_contract
from airflow_mlops_provider.manifests.inference_service import ServiceOptions, build_inference_service


def build_service_preview(model: EnvironmentModel, online: OnlineSpec) -> dict[str, Any]:
    """Return the manifest, without the hash and the lineage that the operator adds when it applies it."""
    arguments = build_service_arguments(model, online)
    known = {item.name for item in fields(ServiceOptions)}
    resolved: dict[str, str] = defaultdict(lambda: LATER)
    contract = build_contract(
        resolved,
        tracking_uri=model.settings.mlflow_tracking_uri or LATER,
        environment=model.environment,
        data_interval=(LATER, LATER),
    )
    options = ServiceOptions(**{name: value for name, value in arguments.items() if name in known})
    return build_inference_service(options, resolved, contract)
