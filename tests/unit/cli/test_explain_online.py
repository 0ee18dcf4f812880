"""What ``airflow-mlops explain`` says of an online service."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from airflow_mlops_provider.cli.main import main

DECLARATIONS = Path(__file__).parents[2] / "declarations"


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    shutil.copy(DECLARATIONS / "environments.yaml", tmp_path)
    for name in ("online.yaml", "churn.yaml", "extends.yaml"):
        shutil.copy(DECLARATIONS / "valid" / name, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "AIRFLOW__MLOPS__ENVIRONMENTS_FILE"):
        monkeypatch.delenv(variable, raising=False)


def test_it_shows_both_dags_and_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "online", "--env", "test"]) == 0
    text = capsys.readouterr().out
    assert "DAGs: test.online.online, test.online.probe\n" in text
    assert "\nDAG test.online.online:\n  starts   0 4 * * * (Europe/Moscow)\n" in text
    assert "\n  task     deploy (KServeCanaryOperator, after resolve)\n" in text
    assert "\n  updates  asset test.online.endpoint\n" in text
    assert "\nDAG test.online.probe:\n  starts   every 10m\n" in text
    assert "\nInferenceService that it deploys:\n  apiVersion: serving.kserve.io/v1beta1\n" in text
    assert "storageUri: mlflow://«resolved when the task runs»" in text
    assert "strict" not in text


def test_json_holds_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "online", "--env", "test", "--output", "json"]) == 0
    services = json.loads(capsys.readouterr().out)["services"]
    predictor = services["online"]["service"]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleMetric"]) == (2, 6, "cpu")
    assert (predictor["model"]["runtime"], predictor["model"]["protocolVersion"]) == ("mlserver", "v1")
    assert services["probe"]["dag"]["dag_id"] == "test.online.probe"


def test_where_nothing_is_served_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "churn", "--env", "dev", "--output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["services"] == {}
    assert told["dags"] == ["dev.churn.batch"]


def test_a_template_is_named_and_its_variables_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "extends", "--env", "test"]) == 0
    service = capsys.readouterr().out.partition("DAG test.extends.online:")[2]
    (line,) = (line for line in service.splitlines() if line.startswith("  extends  big-disk ("))
    assert "environments.yaml:" in line
    assert "mountPath: /etc/company-ca" in service
    assert "/opt/fill" not in service
