"""A merged declaration → its batch DAG.

Decides the DAG's shape: one task; or one that resolves, as many as there are partitions, and one after all of them. The
last one updates the model's asset, which starts the jobs declared ``after`` this one. It runs while a DAG file is
parsed: no network, no Connection, no clock; two parses of the same files give the same DAG.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import Asset, CronDataIntervalTimetable, Param

from airflow_mlops_provider.dag_factory.document import build_document
from airflow_mlops_provider.dag_factory.frame import FIRST_DAY, add_params, build_assets, open_dag
from airflow_mlops_provider.dag_factory.notifiers import build_callbacks
from airflow_mlops_provider.dag_factory.outline import DONE_TASK, RESOLVE_TASK, SCORE_TASK, asset_name, asset_of
from airflow_mlops_provider.dag_factory.pod_arguments import build_pod_arguments, program_variables
from airflow_mlops_provider.dag_factory.run_params import model_params
from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.jobs import MAIN_JOB, job_path
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.node import dotted
from airflow_mlops_provider.declaration.standard_runtime import STANDARD_COMMAND

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator

#: Airflow doubles a wait up to a day; a job that may be retried 20 times would be waiting still when it is due again.
_LONGEST_BACKOFF = timedelta(hours=1)


def build_batch_dag(model: EnvironmentModel, batch: BatchSpec, kind: str = MAIN_JOB) -> DAG:
    """Return the DAG ``<environment>.<model>.batch``, or ``….batch.<job>`` for one of ``batch_jobs``."""
    zone = batch.schedule.timezone if batch.schedule else "UTC"
    start = datetime.combine(batch.start_date, time(), ZoneInfo(zone)) if batch.start_date else FIRST_DAY
    dag = open_dag(
        model,
        kind,
        schedule=_schedule(model, batch, kind),
        description=model.description or f"Apply the model {model.model} in {model.environment}",
        document=build_document(model, batch, kind),
        default_args={
            "retries": batch.retries,
            "retry_delay": batch.retry_delay,
            **_backoff(batch),
            "execution_timeout": batch.timeout,
            "priority_weight": batch.priority,
            **({"pool": batch.pool} if batch.pool else {}),
        },
        start_date=start,
        catchup=batch.catchup,
        **build_callbacks(model, batch.notify),
    )
    with dag:
        _add_tasks(model, batch, kind)
    add_params(dag, _run_params(model, batch))
    return dag


def _schedule(model: EnvironmentModel, batch: BatchSpec, kind: str) -> Any:
    if batch.after:
        return [Asset(asset_of(model.environment, reference)) for reference in batch.after]
    if batch.when:
        return build_assets(model, batch.when, dotted((*job_path(kind), "when")))
    if batch.schedule is None or batch.schedule.cron == "@once":
        return batch.schedule and batch.schedule.cron
    return CronDataIntervalTimetable(batch.schedule.cron, timezone=batch.schedule.timezone)


def _backoff(batch: BatchSpec) -> dict[str, Any]:
    if not batch.retry_backoff:
        return {}
    return {"retry_exponential_backoff": 2.0, "max_retry_delay": max(batch.retry_delay, _LONGEST_BACKOFF)}


def _run_params(model: EnvironmentModel, batch: BatchSpec) -> dict[str, Any]:
    """Return the trigger form: the declared parameters, and fields that may stay empty: what the declaration says."""
    moment: dict[str, Any] = {"type": ["null", "string"], "format": "date-time"}
    return {
        **{name: Param(item.form_default(), **item.form_schema()) for name, item in batch.params.items()},
        **model_params(model, verb="Run"),
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
    from airflow_mlops_provider.operators.done import ModelDoneOperator
    from airflow_mlops_provider.operators.resolve import MLflowResolveModelOperator

    resolve = MLflowResolveModelOperator(
        task_id=RESOLVE_TASK, use_run_params=True, environment=model.environment, **selection
    )
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
    score >> ModelDoneOperator(task_id=DONE_TASK, use_run_params=True, outlets=[asset])


def _operator_arguments(
    model: EnvironmentModel, batch: BatchSpec, kind: str
) -> tuple[type[BaseOperator], dict[str, Any]]:
    common: dict[str, Any] = {
        "environment": model.environment,
        "input_uri": batch.input,
        "output_uri": batch.output,
        **({"declared_params": list(batch.params)} if batch.params else {}),
    }
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
