from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops_provider.cli.main import main

DECLARATIONS = Path(__file__).parents[2] / "declarations"


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    shutil.copy(DECLARATIONS / "environments.yaml", tmp_path)
    shutil.copytree(DECLARATIONS / "valid", tmp_path / "models")
    (tmp_path / "models" / "every-field.yaml").rename(tmp_path / "models" / "renamed.yaml")
    (tmp_path / "models" / "broken.yaml").write_text("model: [")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("model", ["churn", "models/churn.yaml"])
def test_each_value_says_where_it_comes_from(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", model, "--env", "prod", "--output", "json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["dags"] == ["prod.churn.batch", "prod.churn.online"]
    assert explained["selector"]["run_tag"] == {"stage": "prod"}
    assert explained["settings"]["namespace"] == "ml-prod"
    values = explained["values"]
    assert values["online.min_replicas"] == {"value": 3, "origin": "models/churn.yaml:26"}
    assert values["batch.timeout"] == {"value": "2h", "origin": "models/churn.yaml:16"}
    assert values["batch.retry_delay"] == {"value": "5m", "origin": "default"}
    assert values["batch.schedule.cron"] == {"value": "0 3 * * *", "origin": "models/churn.yaml:8"}


def test_text_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "churn", "--env", "prod"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "churn in prod, declared in models/churn.yaml",
        "DAGs: prod.churn.batch, prod.churn.online",
        "Model used: experiment '/churn/gbm', tag stage=prod",
    ]
    assert any(line.split() == ["online.min_replicas", "3", "models/churn.yaml:26"] for line in lines)


def test_a_model_in_a_file_of_another_name_and_no_variable_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "every-field", "--env", "prod", "--output", "json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    assert values["batch.env.MODE"] == {"value": "(hidden)", "origin": "models/renamed.yaml:20"}
    assert values["batch.start_date"]["value"] == "2026-01-31"
    assert values["batch.schedule.cron"] == {"value": "@daily", "origin": "models/renamed.yaml:13"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["chrn", "--env", "prod"],
            "chrn: no valid declaration below this directory has this name; did you mean 'churn'?",
        ),
        (
            ["churn", "--env", "prd"],
            "models/churn.yaml: environments: 'churn' does not go to 'prd'; did you mean 'prod'?",
        ),
        (["broken", "--env", "prod"], "models/broken.yaml:2:1: not YAML"),
        (["models/none.yaml", "--env", "prod"], "models/none.yaml: cannot be read: No such file or directory"),
        (["churn", "--env", "prod", "--environments", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_what_is_not_there(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)


def test_a_name_that_two_files_declare_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path("team/models/churn.yaml")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(Path("models/churn.yaml").read_bytes())
    assert main(["explain", "churn", "--env", "prod"]) == 1
    told = capsys.readouterr().err
    assert told == "churn: is declared in models/churn.yaml and team/models/churn.yaml; name the file\n"
    assert main(["explain", str(copy), "--env", "prod"]) == 0


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["explain", "churn"])
    assert stopped.value.code == 2
    assert "--env" in capsys.readouterr().err


def test_dag_and_pod_that_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "every-field", "--env", "prod", "--output", "json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert [task["task_id"] for task in explained["jobs"]["batch"]["dag"]["tasks"]] == ["resolve", "score", "done"]
    assert explained["jobs"]["batch"]["dag"]["starts"] == "@daily (UTC)"
    assert explained["jobs"]["batch"]["dag"]["reports"] == "prod.every-field.scores"
    (container,) = explained["jobs"]["batch"]["pod"]["spec"]["containers"]
    variables = {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}
    assert variables["MODE"] == variables["RUN"] == "(hidden)"
    assert variables["MODEL_URI"] == "«resolved when the task runs»"
    assert variables["MLFLOW_TRACKING_TOKEN"]["secretKeyRef"]["name"] == "mlflow-token"
    assert explained["jobs"]["batch"]["pod"]["spec"]["nodeSelector"] == {"pool": "prod"}


def test_text_shows_dag_and_pod(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "every-field", "--env", "prod"]) == 0
    text = capsys.readouterr().out
    assert "  starts   @daily (UTC)\n" in text
    assert "  task     score (MLflowModelBatchOperator, 2 instances, after resolve)\n" in text
    assert "\nPod of the task score:\n  apiVersion: v1\n  kind: Pod\n" in text
    assert main(["explain", "churn", "--env", "dev"]) == 0
    text = capsys.readouterr().out
    assert "MLflowModelLocalOperator" in text
    assert "Pod of" not in text


def test_template_is_shown_with_its_place_and_what_it_adds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "extends", "--env", "test", "--output", "json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["values"]["batch.extends"] == {"value": "big-disk", "origin": "models/extends.yaml:5"}
    template = explained["jobs"]["batch"]["template"]
    lines = Path("environments.yaml").read_text(encoding="utf-8").splitlines()
    assert template["origin"] == f"environments.yaml:{lines.index('  big-disk:') + 1}"
    assert {"volumes", "volumeMounts", "initContainers", "affinity"} <= set(template["adds"])
    (init,) = explained["jobs"]["batch"]["pod"]["spec"]["initContainers"]
    assert init["env"] == [{"name": "LD_LIBRARY_PATH", "value": "(hidden)"}]
    assert main(["explain", "extends", "--env", "test"]) == 0
    assert "\n  extends  big-disk (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("", "MLFLOW_TRACKING_URI names no server to ask"),
        ("http://127.0.0.1:9", "127.0.0.1:9"),
        ("sqlite:///x", "sqlite"),
    ],
)
def test_without_an_answer_it_says_why_and_succeeds(
    server: str, why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert main(["explain", "churn", "--env", "prod"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Model now: "))
    assert line.startswith("Model now: unknown; ")
    assert why in line


def test_it_imports_no_airflow(tmp_path: Path) -> None:
    program = (
        "import sys; from airflow_mlops_provider.cli.main import main; main(['explain', 'churn', '--env', 'prod'])\n"
        "sys.exit(str({'airflow', 'mlflow', 'kubernetes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "set()\n"
