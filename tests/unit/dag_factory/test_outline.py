"""What is said of a DAG is what Airflow gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.dag_factory.batch import build_batch_dag
from airflow_mlops_provider.dag_factory.outline import build_outline
from airflow_mlops_provider.declaration import EnvironmentModel, load_declaration, load_environments

DECLARATIONS = Path(__file__).parents[2] / "declarations"
ENVIRONMENTS = load_environments(DECLARATIONS / "environments.yaml")
JOBS = [
    pytest.param(model, kind, id=model.dag_id(kind))
    for file in sorted((DECLARATIONS / "valid").glob("*.yaml"))
    for model in load_declaration(file, ENVIRONMENTS)
    for kind in model.batch_jobs()
]


@pytest.mark.parametrize(("model", "kind"), JOBS)
def test_outline_is_the_dag(model: EnvironmentModel, kind: str) -> None:
    batch = model.batch_jobs()[kind]
    outline, dag = build_outline(model, batch, kind), build_batch_dag(model, batch, kind)
    assert outline["dag_id"] == dag.dag_id
    tasks = {task["task_id"]: (task["operator"], set(task["after"])) for task in outline["tasks"]}
    assert tasks == {task.task_id: (task.task_type, task.upstream_task_ids) for task in dag.tasks}
    (last,) = dag.leaves
    assert [asset.name for asset in last.outlets] == [outline["reports"]]
    assert sum(task["instances"] for task in outline["tasks"]) == (1 if batch.partitions == 1 else batch.partitions + 2)


@pytest.mark.parametrize(
    ("name", "environment", "starts"),
    [
        ("churn", "prod", "0 3 * * * (Europe/Moscow)"),
        ("churn", "test", "only when triggered"),
        ("after", "test", "after test.churn.batch and test.every-field.batch succeeded"),
        ("after", "prod", "when s3://bucket/ready and x-dwh://customers/day?part=1 was updated"),
    ],
)
def test_what_starts_it(name: str, environment: str, starts: str) -> None:
    models = load_declaration(DECLARATIONS / "valid" / f"{name}.yaml", ENVIRONMENTS)
    model = next(model for model in models if model.environment == environment)
    assert model.batch is not None
    assert build_outline(model, model.batch)["starts"] == starts


def test_jobs_of_one_model_wait_for_one_another() -> None:
    (model, _) = load_declaration(DECLARATIONS / "valid" / "jobs.yaml", ENVIRONMENTS)
    jobs = model.batch_jobs()
    outlines = {kind: build_outline(model, batch, kind) for kind, batch in jobs.items()}
    assert {kind: outline["reports"] for kind, outline in outlines.items()} == {
        "batch": "prod.jobs.scores",
        "batch.weekly": "prod.jobs.scores.weekly",
        "batch.report": "prod.jobs.scores.report",
    }
    assert outlines["batch.report"]["starts"] == "after prod.jobs.batch.weekly and prod.churn.batch succeeded"
    dag = build_batch_dag(model, jobs["batch.report"], "batch.report")
    assert {asset.name for asset in dag.schedule} == {"prod.jobs.scores.weekly", "prod.churn.scores"}
