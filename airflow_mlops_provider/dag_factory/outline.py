"""The shape of a batch DAG in words: what starts it, which tasks it has, what it reports.

Decides the names of tasks and of the asset. Pure: no Airflow, so that the command line can show a DAG without it; the
DAG itself is built from the same names in ``batch``.
"""

from __future__ import annotations

from typing import Final, TypedDict

from airflow_mlops_provider.declaration.batch_spec import BatchSpec
from airflow_mlops_provider.declaration.jobs import MAIN_JOB, job_name, read_reference
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.wording import choices

RESOLVE_TASK: Final = "resolve"
SCORE_TASK: Final = "score"
DONE_TASK: Final = "done"


class TaskOutline(TypedDict):
    """One task: its class, the tasks before it, and how many instances it has."""

    task_id: str
    operator: str
    after: list[str]
    instances: int


class DagOutline(TypedDict):
    """One DAG."""

    dag_id: str
    starts: str
    tasks: list[TaskOutline]
    reports: str


def asset_name(environment: str, model: str, kind: str = MAIN_JOB) -> str:
    """Return the name of the asset that a batch job updates when it succeeds: ``prod.churn.scores``, and
    ``prod.churn.scores.weekly`` for the job ``weekly`` of ``batch_jobs``.

    It is its URI too. Not a URI with a scheme: Airflow would load every provider to look for the scheme's handler,
    while a DAG file is parsed. Public: other DAGs are scheduled by it.
    """
    name = job_name(kind)
    return f"{environment}.{model}.scores" + (f".{name}" if name else "")


def asset_of(environment: str, reference: str) -> str:
    """Return the asset that an entry of ``after`` waits for."""
    return asset_name(environment, *read_reference(reference))


def build_outline(model: EnvironmentModel, batch: BatchSpec, kind: str = MAIN_JOB) -> DagOutline:
    """Return what :func:`~airflow_mlops_provider.dag_factory.batch.build_batch_dag` makes of the same declaration."""
    local = model.settings.runner == "local"
    operator = "MLflowModelLocalOperator" if local else "MLflowModelBatchOperator"
    tasks: list[TaskOutline] = [{"task_id": SCORE_TASK, "operator": operator, "after": [], "instances": 1}]
    if batch.partitions > 1:
        tasks = [
            {"task_id": RESOLVE_TASK, "operator": "MLflowResolveModelOperator", "after": [], "instances": 1},
            {"task_id": SCORE_TASK, "operator": operator, "after": [RESOLVE_TASK], "instances": batch.partitions},
            {"task_id": DONE_TASK, "operator": "ModelDoneOperator", "after": [SCORE_TASK], "instances": 1},
        ]
    return {
        "dag_id": model.dag_id(kind),
        "starts": _starts(model, batch),
        "tasks": tasks,
        "reports": asset_name(model.environment, model.model, kind),
    }


def _starts(model: EnvironmentModel, batch: BatchSpec) -> str:
    if batch.schedule is not None:
        return f"{batch.schedule.cron} ({batch.schedule.timezone})"
    if batch.after:
        names = [".".join((model.environment, *read_reference(reference))) for reference in batch.after]
        return f"after {choices(names, last='and')} succeeded"
    if batch.when:
        return f"when {choices(batch.when, last='and')} was updated"
    return "only when triggered"
