"""The pod of a batch job before it runs: what a person may look at, with marks where only a running task knows.

Decides the marks. The pod itself is built from the same arguments as the operator's, by ``manifests.batch_pod``. Pure:
no Airflow, no Kubernetes client.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_mlops_provider.dag_factory.pod_arguments import build_pod_arguments
from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.jobs import MAIN_JOB
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.manifests.batch_pod import build_model_annotations, build_pod_manifest
from airflow_mlops_provider.manifests.contract import build_contract
from airflow_mlops_provider.manifests.naming import (
    CLEARED_ANNOTATION,
    CREATE_ID_ANNOTATION,
    DAG_RUN_ANNOTATION,
    MODEL_ANNOTATION,
    MODEL_URI_ANNOTATION,
)

#: Stands for what is decided when the task runs.
LATER: Final = "«resolved when the task runs»"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunValues:
    """What only a running task knows.

    :param model: a ``ResolvedModel`` as a dictionary, or None.
    :param tracking_uri: of the connection; an environment that names its own goes first.
    """

    model: Mapping[str, Any] | None = None
    tracking_uri: str = LATER
    data_interval: tuple[str, str] = (LATER, LATER)
    partition: int | str = LATER
    dag_run: str = LATER
    max_tries: str = LATER
    create_id: str = LATER


def build_pod_preview(
    model: EnvironmentModel, batch: BatchSpec, values: RunValues | None = None, *, kind: str = MAIN_JOB
) -> dict[str, Any]:
    """Return the manifest of one of the job's pods; templates stand in it as they were written."""
    values = values or RunValues()
    resolved: Mapping[str, Any] = values.model or defaultdict(lambda: LATER)
    contract = build_contract(
        resolved,
        tracking_uri=model.settings.mlflow_tracking_uri or values.tracking_uri,
        environment=model.environment,
        data_interval=values.data_interval,
        partitions=batch.partitions,
        input_uri=batch.input,
        output_uri=batch.output,
        parameters={name: parameter.form_default() for name, parameter in batch.params.items()},
    )
    if batch.partitions > 1:
        contract["MLOPS_PARTITION"] = str(values.partition)
    about_model = (
        build_model_annotations(values.model)
        if values.model
        else {MODEL_URI_ANNOTATION: LATER, MODEL_ANNOTATION: LATER}
    )
    return build_pod_manifest(
        build_pod_arguments(model, batch, kind),
        contract=contract,
        annotations={
            **about_model,
            DAG_RUN_ANNOTATION: values.dag_run,
            CLEARED_ANNOTATION: values.max_tries,
            CREATE_ID_ANNOTATION: values.create_id,
        },
        volumes=[item.model_dump() for item in model.settings.volumes],
    )
