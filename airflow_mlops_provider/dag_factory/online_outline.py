"""The shape of an online DAG and of its probe in words: what starts them, which tasks they have, what they report.

Decides the names of tasks and of the asset. Pure: no Airflow, so that the command line can show the DAGs without it;
the DAGs themselves are built from the same names in ``online`` and ``probe``.
"""

from __future__ import annotations

from typing import Final

from airflow_mlops_provider.dag_factory.outline import RESOLVE_TASK, DagOutline, TaskOutline
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.online_spec import OnlineSpec, Probe
from airflow_mlops_provider.declaration.quantity import format_duration
from airflow_mlops_provider.declaration.wording import choices

#: The same with a canary: what follows need not know how the model got there.
DEPLOY_TASK: Final = "deploy"
#: In place of ``deploy``, where Argo CD is the one that writes to the cluster.
COMMIT_TASK: Final = "commit"
WAIT_TASK: Final = "wait"
REVERT_TASK: Final = "revert"
VERIFY_TASK: Final = "verify"
RECORD_TASK: Final = "record"
PROBE_TASK: Final = "probe"


def endpoint_asset(environment: str, model: str) -> str:
    """Return the name of the asset that every deployment updates: ``prod.churn.endpoint``.

    A plain name for the reason told at ``outline.asset_name``. Public: other DAGs are scheduled by it.
    """
    return f"{environment}.{model}.endpoint"


def deploys_by_commit(model: EnvironmentModel) -> bool:
    """Whether Argo CD is the one that writes to the cluster."""
    return model.settings.deployer == "argocd"


def reverts(model: EnvironmentModel, online: OnlineSpec) -> bool:
    """Whether a commit is taken back when what it brought fails."""
    return deploys_by_commit(model) and online.on_failure != "keep"


def build_online_outline(model: EnvironmentModel, online: OnlineSpec) -> DagOutline:
    """Return what :func:`~airflow_mlops_provider.dag_factory.online.build_online_dag` makes of the same declaration."""
    tasks = _chain(
        [
            (RESOLVE_TASK, "MLflowResolveModelOperator"),
            *_deploying(model, online),
            (VERIFY_TASK, "ProbeEndpointOperator"),
            (RECORD_TASK, "RecordDeploymentOperator"),
        ]
    )
    if reverts(model, online):
        after = [COMMIT_TASK, WAIT_TASK, VERIFY_TASK]
        tasks.append({"task_id": REVERT_TASK, "operator": "KServeRevertOperator", "after": after, "instances": 1})
    return {
        "dag_id": model.dag_id("online"),
        "starts": _starts(online),
        "tasks": tasks,
        "reports": endpoint_asset(model.environment, model.model),
    }


def _deploying(model: EnvironmentModel, online: OnlineSpec) -> list[tuple[str, str]]:
    if deploys_by_commit(model):
        return [(COMMIT_TASK, "KServeCommitOperator"), (WAIT_TASK, "KServeReadySensor")]
    return [(DEPLOY_TASK, "KServeCanaryOperator" if online.canary else "KServeDeployOperator")]


def _starts(online: OnlineSpec) -> str:
    if online.schedule is not None:
        return f"{online.schedule.cron} ({online.schedule.timezone})"
    if online.when:
        return f"when {choices(online.when, last='and')} was updated"
    return "only when triggered"


def _chain(steps: list[tuple[str, str]]) -> list[TaskOutline]:
    before: list[list[str]] = [[], *([task_id] for task_id, _ in steps)]
    return [
        {"task_id": task_id, "operator": operator, "after": after, "instances": 1}
        for (task_id, operator), after in zip(steps, before, strict=False)
    ]


def build_probe_outline(model: EnvironmentModel, probe: Probe) -> DagOutline:
    """Return what :func:`~airflow_mlops_provider.dag_factory.probe.build_probe_dag` makes of the same declaration."""
    return {
        "dag_id": model.dag_id("probe"),
        "starts": f"every {format_duration(probe.every)}",
        "tasks": _chain([(PROBE_TASK, "ProbeEndpointOperator")]),
        "reports": "",
    }
