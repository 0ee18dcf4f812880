"""What a declaration says of a DAG's runs, and that the DAG can be built on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlops_provider import load_model_dags

ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev: {runner: local, model: {run_tag: {stage: dev}}, allow: {jinja: [ds], uri_schemes: [file]}}
"""
CHURN = """
apiVersion: mlops/v1
model: churn
owner: growth@example.com
experiment: /churn/gbm
batch:
  schedule: {cron: "0 3 * * *", timezone: Europe/Moscow}
  catchup: true
  start_date: 2026-01-31
  pool: scoring
  priority: 10
  input: "file:///in/{{ ds }}/"
  output: "file:///out/{{ ds }}/"
environments: {dev: }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    (tmp_path / "churn.yaml").write_text(CHURN)
    return tmp_path / "churn.yaml"


def _dag(file: Path) -> Any:
    return load_model_dags(file)["dev.churn.batch"]


def test_missed_days_are_caught_up_each_with_its_own_interval(file: Path) -> None:
    dag = DagSerialization.from_dict(DagSerialization.to_dict(_dag(file)))
    assert dag.catchup is True
    first = dag.next_dagrun_info(last_automated_run_info=None)
    assert first is not None
    # Moscow is three hours ahead of UTC: 03:00 there is midnight here.
    interval = first.data_interval
    assert interval is not None
    begin, end = interval
    assert (begin.isoformat(), end.isoformat()) == ("2026-01-31T00:00:00+00:00", "2026-02-01T00:00:00+00:00")


def test_pool_and_priority_are_the_tasks(file: Path) -> None:
    (task,) = _dag(file).tasks
    assert (task.pool, task.priority_weight) == ("scoring", 10)


def test_a_python_file_may_add_to_the_dag(file: Path) -> None:
    dag = _dag(file)
    with dag:
        dag.get_task("score") >> EmptyOperator(task_id="report")
    again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert again.get_task("report").upstream_task_ids == {"score"}
