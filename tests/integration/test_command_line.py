"""``airflow-mlops explain`` and ``resolve`` against a real MLflow server: which model would be used now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops_provider.cli.main import main

pytestmark = pytest.mark.integration

ENVIRONMENTS = """
apiVersion: mlops/v1
environments: {dev: {runner: local, model: {run_tag: {stage: dev}}}}
"""
CHURN = """
apiVersion: mlops/v1
model: churn
owner: growth@example.com
experiment: /command/line
batch: {input: file:///in/, output: file:///out/}
environments: {dev: }
"""


def test_explain_and_resolve_name_the_model_of_now(
    mlflow3_server: Any,
    train_model: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = train_model(mlflow3_server.url, "/command/line", tags={"stage": "dev"})
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "churn.yaml").write_text(CHURN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow3_server.url)
    assert main(["resolve", "churn", "--env", "dev", "--output", "json"]) == 0
    resolved = json.loads(capsys.readouterr().out)
    assert resolved["run_id"] == run.run_id
    assert main(["explain", "churn", "--env", "dev"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Model now: "))
    assert resolved["uri"] in line
    assert run.run_id in line
