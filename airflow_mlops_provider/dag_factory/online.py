"""A merged declaration → its online DAG: which model, bring it out, ask it, record it.

Decides the DAG's shape. ``deploy`` applies the service and is green only when its pods have predicted. Where Argo CD is
the one that writes to the cluster, ``commit`` puts the same manifest into Git instead, ``wait`` waits until the cluster
runs it, and ``revert`` takes the commit back where that fails. ``verify`` then asks what serves, and ``record`` updates
the asset that says so. Parsing does no network, no Connection, no clock, and loads no Kubernetes client.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, CronTriggerTimetable, TriggerRule

from airflow_mlops_provider.dag_factory.frame import add_params, build_assets, open_dag
from airflow_mlops_provider.dag_factory.notifiers import build_callbacks
from airflow_mlops_provider.dag_factory.online_arguments import (
    build_canary_arguments,
    build_gitops_arguments,
    build_place,
    build_service_arguments,
    gitops_directory,
    smoke_test,
)
from airflow_mlops_provider.dag_factory.online_document import build_online_document
from airflow_mlops_provider.dag_factory.online_outline import (
    COMMIT_TASK,
    DEPLOY_TASK,
    RECORD_TASK,
    REVERT_TASK,
    VERIFY_TASK,
    WAIT_TASK,
    deploys_by_commit,
    endpoint_asset,
    reverts,
)
from airflow_mlops_provider.dag_factory.outline import RESOLVE_TASK
from airflow_mlops_provider.dag_factory.run_params import model_params
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.online_spec import OnlineSpec

if TYPE_CHECKING:
    from airflow.sdk import DAG, BaseOperator

#: For what passes by itself: MLflow restarting, the API server away. What somebody has to mend is not tried again.
_RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=30)}


def build_online_dag(model: EnvironmentModel, online: OnlineSpec) -> DAG:
    """Return the DAG ``<environment>.<model>.online``."""
    dag = open_dag(
        model,
        "online",
        schedule=_schedule(model, online),
        description=model.description or f"Serve the model {model.model} in {model.environment}",
        document=build_online_document(model, online),
        default_args=_RETRIES,
        max_active_runs=1,  # two deployments of one service at a time would each undo the other
        **build_callbacks(model, online.notify),
    )
    with dag:
        _add_tasks(model, online)
    add_params(dag, model_params(model, verb="Deploy"))
    return dag


def _schedule(model: EnvironmentModel, online: OnlineSpec) -> Any:
    if online.when:
        return build_assets(model, online.when, "online.when")
    if online.schedule is None or online.schedule.cron == "@once":
        return online.schedule and online.schedule.cron
    # A deployment covers no interval of data: it is due at the moment itself.
    return CronTriggerTimetable(online.schedule.cron, timezone=online.schedule.timezone)


def _add_tasks(model: EnvironmentModel, online: OnlineSpec) -> None:
    from airflow_mlops_provider.operators.probe import ProbeEndpointOperator
    from airflow_mlops_provider.operators.record import RecordDeploymentOperator
    from airflow_mlops_provider.operators.resolve import MLflowResolveModelOperator

    mlflow: dict[str, Any] = {"mlflow_conn_id": model.settings.connections.mlflow}
    resolve = MLflowResolveModelOperator(
        task_id=RESOLVE_TASK,
        model=model.selector().to_dict(),
        environment=model.environment,
        use_run_params=True,
        **mlflow,
    )
    resolved: Any = resolve.output
    commit = _commit(model, online, resolved) if deploys_by_commit(model) else None
    deploy = _wait(model, online, commit) if commit else _deploy(model, online, resolved)
    verify = ProbeEndpointOperator(
        task_id=VERIFY_TASK,
        model=resolved,
        smoke_test=smoke_test(online),
        protocol=online.protocol,
        **mlflow,
        **build_place(model, online),
    )
    seen: Any = verify.output
    record = RecordDeploymentOperator(
        task_id=RECORD_TASK,
        environment=model.environment,
        declaration=model.file,
        model=resolved,
        service=seen,
        gitops_commit=_result_of(commit, "commit") if commit else None,
        outlets=[Asset(endpoint_asset(model.environment, model.model))],
    )
    deploy >> verify >> record
    if commit and reverts(model, online):
        [deploy, verify] >> _revert(model, online, commit)


def _deploy(model: EnvironmentModel, online: OnlineSpec, resolved: Any) -> BaseOperator:
    from airflow_mlops_provider.operators.kserve import KServeCanaryOperator, KServeDeployOperator

    arguments = {**_deploying(model, online, resolved), "task_id": DEPLOY_TASK}
    if online.canary is None:
        return KServeDeployOperator(**arguments)
    return KServeCanaryOperator(**arguments, **build_canary_arguments(online))


def _deploying(model: EnvironmentModel, online: OnlineSpec, resolved: Any) -> dict[str, Any]:
    return {
        "model": resolved,
        "mlflow_conn_id": model.settings.connections.mlflow,
        "use_run_params": True,  # says that a declaration made this task; the model is resolved by then
        **build_service_arguments(model, online),
    }


def _commit(model: EnvironmentModel, online: OnlineSpec, resolved: Any) -> BaseOperator:
    from airflow_mlops_provider.operators.argocd import KServeCommitOperator

    arguments = {**_deploying(model, online, resolved), **build_gitops_arguments(model)}
    return KServeCommitOperator(task_id=COMMIT_TASK, directory=gitops_directory(model), **arguments)


def _wait(model: EnvironmentModel, online: OnlineSpec, commit: BaseOperator) -> BaseOperator:
    from airflow_mlops_provider.sensors.kserve import KServeReadySensor

    service = build_service_arguments(model, online)
    same = {name: service[name] for name in ("timeout_seconds", "deferrable") if name in service}
    wait = KServeReadySensor(
        task_id=WAIT_TASK, spec_hash=_result_of(commit, "spec_hash"), **same, **build_place(model, online)
    )
    commit >> wait
    return wait


def _result_of(task: BaseOperator, key: str) -> str:
    """Return the template of one field of what a task returned; ``.output[key]`` is another XCom."""
    return f"{{{{ ti.xcom_pull(task_ids={task.task_id!r})[{key!r}] }}}}"


def _revert(model: EnvironmentModel, online: OnlineSpec, commit: BaseOperator) -> BaseOperator:
    from airflow_mlops_provider.operators.argocd import KServeRevertOperator

    committed: Any = commit.output
    return KServeRevertOperator(
        task_id=REVERT_TASK,
        committed=committed,
        on_failure=online.on_failure,
        trigger_rule=TriggerRule.ONE_FAILED,
        **build_gitops_arguments(model),
    )
