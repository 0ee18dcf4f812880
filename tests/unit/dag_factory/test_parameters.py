"""Declared parameters, from the trigger form to the program."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from airflow_mlops_provider import load_model_dags

ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev: {runner: local, model: {latest_run: true}, connections: {mlflow: mlflow_here}, allow: {commands: true}}
"""
DECLARATION = """
apiVersion: mlops/v1
model: churn
owner: me
experiment: /churn
batch:
  params:
    threshold: {type: number, default: 0.5, minimum: 0, maximum: 1, description: From which score on?}
    segment: {type: string, enum: [a, b], default: a}
    dry: {type: boolean, default: false}
    since: {type: date, default: 2026-01-31}
  command: [PROGRAM, -c, CODE, "{{ params.segment }}-{{ params.since }}"]
environments: {dev: }
"""
CODE = (
    "import os, json, sys; told = {k: v for k, v in os.environ.items() if k.startswith('PARAM_')};"
    "open(os.environ['MLOPS_XCOM_PATH'], 'w').write(json.dumps({**told, 'argument': sys.argv[1]}))"
)
MODEL = {
    "uri": "models:/m-0",
    "source_uri": "s3://m/",
    "run_id": None,
    "experiment_id": None,
    "model_id": "m-0",
    "name": "churn",
    "version": None,
    "digest": "sha256:0",
    "git_commit": None,
    "run_url": None,
    "resolved_at": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_HERE", json.dumps({"conn_type": "mlflow", "host": "http://127.0.0.1:9"}))
    monkeypatch.delenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", raising=False)
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    text = DECLARATION.replace("PROGRAM", sys.executable).replace("CODE", json.dumps(CODE))
    (tmp_path / "churn.yaml").write_text(text)
    return load_model_dags(tmp_path / "churn.yaml")["dev.churn.batch"]


def test_form_offers_them_with_type_limits_and_default(dag: Any) -> None:
    told = {name: (dag.params.get_param(name).value, dag.params.get_param(name).schema) for name in dag.params}
    assert told["threshold"][0] == 0.5
    assert told["threshold"][1] == {"type": "number", "minimum": 0.0, "maximum": 1.0}
    assert told["segment"] == ("a", {"type": "string", "enum": ["a", "b"]})
    assert told["since"] == ("2026-01-31", {"type": "string", "format": "date"})
    assert dag.params.get_param("threshold").description == "From which score on?"
    dag.params.validate()


@pytest.mark.parametrize(("name", "value"), [("threshold", 2), ("segment", "c"), ("dry", "no"), ("since", "x")])
def test_airflow_refuses_what_does_not_fit(name: str, value: object, dag: Any) -> None:
    dag.params.validate()
    with pytest.raises(ParamValidationError):
        dag.params[name] = value


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ({}, {"THRESHOLD": "0.5", "SEGMENT": "a", "DRY": "false", "SINCE": "2026-01-31"}),
        (
            {"threshold": 0.9, "segment": "b"},
            {"THRESHOLD": "0.9", "SEGMENT": "b", "DRY": "false", "SINCE": "2026-01-31"},
        ),
    ],
)
def test_program_gets_them_and_nothing_undeclared(conf: dict[str, Any], expected: dict[str, str], dag: Any) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    (task,) = dag.tasks
    instance = SimpleNamespace(xcom_push=lambda **_: None, max_tries=0)
    params = {**dag.params.dump(), **conf, "smuggled": "x"}
    context: Any = {
        "dag_run": SimpleNamespace(run_after=noon),
        "params": params,
        "run_id": "r",
        "ti": instance,
        "task_instance": instance,
    }
    task.model = MODEL
    task.render_template_fields(context)
    argument = f"{expected['SEGMENT']}-{expected['SINCE']}"
    told = {**{f"PARAM_{name}": value for name, value in expected.items()}, "argument": argument}
    assert task.execute(context) == task.execute(context) == told  # a retry gets the same
