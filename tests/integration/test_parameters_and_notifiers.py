"""What a person sets when triggering a run, and who is told how it ended, in a real Airflow with a real model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_mlops_provider.demo.airflow_api import AirflowApi
from airflow_mlops_provider.demo.process import DemoError
from airflow_mlops_provider.demo.servers import AirflowServer, BareRepository, git_bundle

pytestmark = pytest.mark.integration

DAG_ID = "dev.told.batch"
#: Writes a line where somebody would send a mail.
NOTIFIER = """
from airflow.sdk import BaseNotifier

class FileNotifier(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, path, text):
        super().__init__()
        self.path, self.text = path, text

    def notify(self, context):
        with open(self.path, "a") as file:
            file.write(self.text + chr(10))
"""
ENVIRONMENTS = """
apiVersion: mlops/v1
notifiers:
  good: {class: file_notifier.FileNotifier, arguments: {path: TOLD, text: "{{ dag.dag_id }} succeeded"}}
  bad: {class: file_notifier.FileNotifier, arguments: {path: TOLD, text: "{{ dag.dag_id }} failed"}}
  gone: {class: no_such_module.Notifier}
environments:
  dev:
    runner: local
    model: {run_tag: {stage: dev}}
    connections: {mlflow: mlflow_dev}
    notify: {on_failure: [bad]}
    allow: {commands: true, notifiers: [good, gone]}
"""
DECLARATION = """
apiVersion: mlops/v1
model: told
owner: growth@example.com
experiment: /told
batch:
  command: [PROGRAM, -c, CODE]
  args: ["{{ params.outcome }}"]
  retries: 1
  retry_delay: 1s
  params:
    outcome: {type: string, enum: [good, bad], default: good}
    threshold: {type: number, default: 0.5, minimum: 0, maximum: 1}
  notify: {on_success: [good]}
environments: {dev: {}}
"""
CODE = (
    "import os, sys; print('threshold', os.environ['PARAM_THRESHOLD'], 'outcome', sys.argv[1]);"
    "sys.exit(os.environ['PARAM_OUTCOME'] != 'good' or sys.argv[1] != 'good')"
)
WITH_MISSING = DECLARATION.replace("model: told", "model: missing").replace("[good]}", "[gone]}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notifiers")


@pytest.fixture(scope="module")
def airflow(folder: Path, mlflow3_server: object, train_model: Callable[..., object]) -> Iterator[AirflowServer]:
    url = mlflow3_server.url  # type: ignore[attr-defined]
    train_model(url, "/told", tags={"stage": "dev"})
    (folder / "code").mkdir()
    (folder / "code" / "file_notifier.py").write_text(NOTIFIER)
    repository = BareRepository(folder / "git")
    written = {
        "environments.yaml": ENVIRONMENTS.replace("TOLD", str(folder / "told")),
        "models/told.yaml": DECLARATION,
        "models/missing.yaml": WITH_MISSING,
    }
    places = {"PROGRAM": sys.executable, "CODE": json.dumps(CODE)}
    for mark, text in places.items():
        written = {name: content.replace(mark, text) for name, content in written.items()}
    repository.commit_and_push(written)
    connections = {"mlflow_dev": {"conn_type": "mlflow", "host": url}}
    env = {"PYTHONPATH": str(folder / "code")}
    with AirflowServer(folder / "airflow", [git_bundle(repository.url)], connections, env) as server:
        server.wait_for_dag(DAG_ID)
        yield server


def _told(folder: Path, lines: int) -> list[str]:
    """Return what was told; callbacks run after the run has ended."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = (folder / "told").read_text().splitlines() if (folder / "told").exists() else []
        if len(told) >= lines:
            return told
        time.sleep(0.5)
    raise AssertionError(f"nobody was told within a minute: {told}")


def test_values_reach_the_program_in_every_try_and_the_named_are_told(airflow: AirflowApi, folder: Path) -> None:
    run_id = airflow.trigger(DAG_ID)
    assert airflow.wait_for_run(DAG_ID, run_id)["state"] == "success"
    assert "threshold 0.5 outcome good" in "\n".join(airflow.logs(DAG_ID, run_id, "score"))
    assert _told(folder, 1) == [f"{DAG_ID} succeeded"]
    run_id = airflow.trigger(DAG_ID, conf={"outcome": "bad", "threshold": 0.9})
    assert airflow.wait_for_run(DAG_ID, run_id)["state"] == "failed"
    for number in (1, 2):
        log = "\n".join(airflow.logs(DAG_ID, run_id, "score", try_number=number))
        assert "threshold 0.9 outcome bad" in log
    assert _told(folder, 2) == [f"{DAG_ID} succeeded", f"{DAG_ID} failed"]


@pytest.mark.parametrize("conf", [{"threshold": 2}, {"outcome": "ugly"}])
def test_a_value_that_does_not_fit_starts_no_run(conf: dict[str, object], airflow: AirflowApi) -> None:
    with pytest.raises(DemoError, match="400"):
        airflow.trigger(DAG_ID, conf=conf)


def test_a_class_that_is_not_there_is_told_with_its_line(airflow: AirflowApi) -> None:
    (error,) = airflow.import_errors()
    expected = "environments.yaml:6:17: notifiers.gone.class: 'no_such_module.Notifier' cannot be imported"
    assert expected in error["stack_trace"]
