"""A merged declaration → its batch DAG.

Decides the DAG's shape: one task; or one that resolves, as many as there are partitions, and one after all of them. The
last one updates the model's asset, which starts the jobs declared ``after`` this one. It runs while a DAG file is
parsed: no network, no Connection, no clock; two parses of the same files give the same DAG.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, Param, timezone

from airflow_mlops_provider.dag_factory.document import build_document
from airflow_mlops_provider.dag_factory.outline import DONE_TASK, RESOLVE_TASK, SCORE_TASK, asset_name, asset_of
from airflow_mlops_provider.dag_factory.pod_arguments import build_pod_arguments, program_variables
from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.jobs import MAIN_JOB, job_path
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.node import dotted
from airflow_mlops_provider.declaration.standard_runtime import STANDARD_COMMAND
from airflow_mlops_provider.exceptions import DeclarationError, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

#: Airflow wants a first day. Any fixed one does: without ``catchup`` only the latest interval runs.
_FIRST_DAY = timezone.convert_to_utc(datetime(2025, 1, 1, tzinfo=UTC))  # what the constructor would make of it
#: Airflow doubles a wait up to a day; a job that may be retried 20 times would be waiting still when it is due again.
_LONGEST_BACKOFF = timedelta(hours=1)
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")


def build_batch_dag(model: EnvironmentModel, batch: BatchSpec, kind: str = MAIN_JOB) -> DAG:
    """Return the DAG ``<environment>.<model>.batch``, or ``….batch.<job>`` for one of ``batch_jobs``."""
    zone = batch.schedule.timezone if batch.schedule else "UTC"
    start = datetime.combine(batch.start_date, time(), ZoneInfo(zone)) if batch.start_date else _FIRST_DAY
    dag = DAG(
        model.dag_id(kind),
        schedule=_schedule(model, batch, kind),
        start_date=start,
        catchup=batch.catchup,
        description=model.description or f"Apply the model {model.model} in {model.environment}",
        doc_md=build_document(model, batch, kind),
        tags=sorted({"mlops", "batch", model.environment, model.model, *model.tags}),
        default_args={
            "owner": model.owner,
            "retries": batch.retries,
            "retry_delay": batch.retry_delay,
            **_backoff(batch),
            "execution_timeout": batch.timeout,
            "priority_weight": batch.priority,
            **({"pool": batch.pool} if batch.pool else {}),
        },
        owner_links={model.owner: f"mailto:{model.owner}"} if _MAIL_ADDRESS.fullmatch(model.owner) else {},
        **_configured_limits(),
    )
    with dag:
        _add_tasks(model, batch, kind)
    # Only now: the constructor, and that of each task, would check the parameters' schemas anew for every DAG, which
    # took more than a third of its time. They are constants, and a test checks them.
    for name, param in _run_params(model).items():
        dag.params[name] = param
    return dag


def _schedule(model: EnvironmentModel, batch: BatchSpec, kind: str) -> Any:
    if batch.after:
        return [Asset(asset_of(model.environment, reference)) for reference in batch.after]
    if batch.when:
        return _assets(model, batch.when, dotted((*job_path(kind), "when")))
    if batch.schedule is None or batch.schedule.cron == "@once":
        return batch.schedule and batch.schedule.cron
    return CronDataIntervalTimetable(batch.schedule.cron, timezone=batch.schedule.timezone)


def _assets(model: EnvironmentModel, uris: tuple[str, ...], field: str) -> list[Asset]:
    try:
        return [Asset(uri=uri) for uri in uris]
    except ValueError as error:  # a provider has rules of its own for URIs of its scheme
        _, line = model.origin[field]
        raise DeclarationError([Problem(model.file, line, 1, field, f"Airflow refuses it: {error}")]) from error


def _backoff(batch: BatchSpec) -> dict[str, Any]:
    if not batch.retry_backoff:
        return {}
    return {"retry_exponential_backoff": 2.0, "max_retry_delay": max(batch.retry_delay, _LONGEST_BACKOFF)}


@cache
def _configured_limits() -> dict[str, Any]:
    """Return what the constructor would look up in Airflow's configuration anew for every DAG, half of its time."""
    from airflow.sdk import conf

    return {
        "max_active_tasks": conf.getint("core", "max_active_tasks_per_dag"),
        "max_active_runs": conf.getint("core", "max_active_runs_per_dag"),
        "max_consecutive_failed_dag_runs": conf.getint("core", "max_consecutive_failed_dag_runs_per_dag"),
        "disable_bundle_versioning": conf.getboolean("dag_processor", "disable_bundle_versioning"),
    }


def _run_params(model: EnvironmentModel) -> dict[str, Any]:
    """Return the trigger form: every field may stay empty, which means what the declaration says."""
    text: dict[str, Any] = {"type": ["null", "string"]}
    moment: dict[str, Any] = {"type": ["null", "string"], "format": "date-time"}
    by_version: dict[str, Any] = {
        "model_version": Param(None, title="Model version", description="Run this registered version instead.", **text),
        "model_alias": Param(None, title="Model alias", description="Run the version with this alias instead.", **text),
    }
    return {
        **(by_version if model.declaration.registered_model else {}),
        "model_run_id": Param(
            None, title="MLflow run ID", description="Run the model of this MLflow run instead.", **text
        ),
        "data_interval_start": Param(
            None, title="Data interval start", description="Score this interval instead of the run's own.", **moment
        ),
        "data_interval_end": Param(None, title="Data interval end", **moment),
    }


def _add_tasks(model: EnvironmentModel, batch: BatchSpec, kind: str) -> None:
    operator, arguments = _operator_arguments(model, batch, kind)
    selection: dict[str, Any] = {
        "model": model.selector().to_dict(),
        "mlflow_conn_id": model.settings.connections.mlflow,
    }
    asset = Asset(asset_name(model.environment, model.model, kind))
    if batch.partitions == 1:
        operator(task_id=SCORE_TASK, use_run_params=True, outlets=[asset], **selection, **arguments)
        return
    from airflow.providers.standard.operators.empty import EmptyOperator

    from airflow_mlops_provider.operators.resolve import MLflowResolveModelOperator

    resolve = MLflowResolveModelOperator(task_id=RESOLVE_TASK, use_run_params=True, **selection)
    score = operator.partial(
        task_id=SCORE_TASK,
        use_run_params=True,
        model=resolve.output,
        mlflow_conn_id=selection["mlflow_conn_id"],
        partitions=batch.partitions,
        map_index_template="partition {{ task.partition }}",
        **arguments,
    ).expand(partition=list(range(batch.partitions)))
    # An outlet of the mapped task would report the first partition's end as that of all.
    score >> EmptyOperator(task_id=DONE_TASK, outlets=[asset])


def _operator_arguments(
    model: EnvironmentModel, batch: BatchSpec, kind: str
) -> tuple[type[BaseOperator], dict[str, Any]]:
    common = {"environment": model.environment, "input_uri": batch.input, "output_uri": batch.output}
    if model.settings.runner == "local":
        from airflow_mlops_provider.operators.local import MLflowModelLocalOperator

        command = [*(batch.command or STANDARD_COMMAND), *(batch.args or ())]
        return MLflowModelLocalOperator, {**common, "command": command, "env_vars": program_variables(model, batch)}
    from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator

    return MLflowModelBatchOperator, {**common, **build_pod_arguments(model, batch, kind), **_volume_arguments(model)}


def _volume_arguments(model: EnvironmentModel) -> dict[str, Any]:
    """Return the environment's claims as the pod operator wants them: objects of the Kubernetes client, not JSON."""
    from kubernetes.client import V1PersistentVolumeClaimVolumeSource, V1Volume, V1VolumeMount

    volumes, mounts = [], []
    for item in model.settings.volumes:
        source = V1PersistentVolumeClaimVolumeSource(claim_name=item.claim, read_only=item.read_only)
        volumes.append(V1Volume(name=item.claim, persistent_volume_claim=source))
        mounts.append(V1VolumeMount(name=item.claim, mount_path=item.mount_path, read_only=item.read_only))
    return {"volumes": volumes, "volume_mounts": mounts} if volumes else {}
