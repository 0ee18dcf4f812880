"""What is said of a DAG is what Airflow gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.dag_factory.batch import build_batch_dag
from airflow_mlops_provider.dag_factory.outline import build_outline
from airflow_mlops_provider.declaration import EnvironmentModel, load_declaration, load_environments

DECLARATIONS = Path(__file__).parents[2] / "declarations"
ENVIRONMENTS = load_environments(DECLARATIONS / "environments.yaml")
MODELS = [
    pytest.param(model, id=f"{model.environment}.{model.model}")
    for file in sorted((DECLARATIONS / "valid").glob("*.yaml"))
    for model in load_declaration(file, ENVIRONMENTS)
    if model.batch
]


@pytest.mark.parametrize("model", MODELS)
def test_outline_is_the_dag(model: EnvironmentModel) -> None:
    assert model.batch is not None
    outline, dag = build_outline(model, model.batch), build_batch_dag(model, model.batch)
    assert outline["dag_id"] == dag.dag_id
    tasks = {task["task_id"]: (task["operator"], set(task["after"])) for task in outline["tasks"]}
    assert tasks == {task.task_id: (task.task_type, task.upstream_task_ids) for task in dag.tasks}
    (last,) = dag.leaves
    assert [asset.name for asset in last.outlets] == [outline["reports"]]
    assert sum(task["instances"] for task in outline["tasks"]) == (
        1 if model.batch.partitions == 1 else model.batch.partitions + 2
    )


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
