"""A merged declaration → the DAG that asks its online service for a prediction at regular times.

Decides how often and how patiently. It is a DAG of its own, so that a run every few minutes does not hide the
deployments. Parsing does no network, no Connection, no clock, and loads no Kubernetes client.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import Asset, DeltaTriggerTimetable

from airflow_mlops_provider.dag_factory.frame import open_dag
from airflow_mlops_provider.dag_factory.notifiers import build_callbacks
from airflow_mlops_provider.dag_factory.online_arguments import build_place, smoke_test
from airflow_mlops_provider.dag_factory.online_document import build_probe_document
from airflow_mlops_provider.dag_factory.online_outline import PROBE_TASK, endpoint_asset
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.online_spec import OnlineSpec, Probe

if TYPE_CHECKING:
    from airflow.sdk import DAG

#: One lost packet is no outage; two answers missing within half a minute are.
_RETRIES = {"retries": 1, "retry_delay": timedelta(seconds=15)}


def build_probe_dag(model: EnvironmentModel, online: OnlineSpec, probe: Probe) -> DAG:
    """Return the DAG ``<environment>.<model>.probe``."""
    from airflow_mlops_provider.operators.probe import ProbeEndpointOperator

    dag = open_dag(
        model,
        "probe",
        schedule=DeltaTriggerTimetable(probe.every),
        description=f"Is the model {model.model} available in {model.environment}?",
        document=build_probe_document(model, online, probe),
        default_args={**_RETRIES, "execution_timeout": probe.every},
        max_active_runs=1,
        # Who is told when a deployment has succeeded need not hear every few minutes that the service is there.
        **build_callbacks(model, online.notify.model_copy(update={"on_success": ()})),
    )
    with dag:
        ProbeEndpointOperator(
            task_id=PROBE_TASK,
            mlflow_conn_id=model.settings.connections.mlflow,
            smoke_test=smoke_test(online),
            protocol=online.protocol,
            inlets=[Asset(endpoint_asset(model.environment, model.model))],
            **build_place(model, online),
        )
    return dag
