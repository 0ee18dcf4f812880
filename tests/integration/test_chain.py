"""A chain of models in a real Airflow: whoever is started by another one's assets covers the same day."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from mlflow_servers import MLflowServer, TrainedRun

from airflow_mlops_provider.demo.process import wait_until
from airflow_mlops_provider.demo.servers import AirflowServer, BareRepository, git_bundle

pytestmark = pytest.mark.integration

SOON_SECONDS = 180.0  # the scheduler looks for updated assets every few seconds
ENVIRONMENTS = """\
apiVersion: mlops/v1
environments:
  prod:
    runner: local
    model: {run_tag: {stage: prod}}
    allow: {uri_schemes: [file], commands: true, jinja: [ds]}
"""
PROGRAM = """\
import json, os
start, end = os.environ["DATA_INTERVAL_START"], os.environ["DATA_INTERVAL_END"]
seen = {"ds": os.environ["INPUT_URI"][-10:], "start": start, "end": end}
open(os.environ["MLOPS_XCOM_PATH"], "w").write(json.dumps(seen))
"""


def declare(model: str, more: str) -> str:
    program = PROGRAM.replace("\n", "\n      ")
    return (
        f"apiVersion: mlops/v1\nmodel: {model}\nowner: a@example.com\nexperiment: /tests/chain\nbatch:\n"
        f'  input: "file:///in/{{{{ ds }}}}"\n  command:\n    - python\n    - -c\n    - |\n      {program}\n'
        f"  {more}\nenvironments: {{prod: {{}}}}\n"
    )


@pytest.fixture(scope="module")
def airflow(
    mlflow3_server: MLflowServer,
    train_model: Callable[..., TrainedRun],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowServer]:
    train_model(mlflow3_server.url, "/tests/chain", tags={"stage": "prod"})
    directory = tmp_path_factory.mktemp("chain")
    repository = BareRepository(directory / "git")
    files = {
        "environments.yaml": ENVIRONMENTS,
        "models/first.yaml": declare("first", "partitions: 2"),
        "models/second.yaml": declare("second", "after: [first]"),
        "models/third.yaml": declare("third", "after: [second]"),
    }
    repository.commit_and_push(files)
    connections = {"mlflow_default": {"conn_type": "mlflow", "host": mlflow3_server.url}}
    with AirflowServer(directory / "airflow", [git_bundle(repository.url)], connections, parallelism=2) as server:
        yield server


def started_run(airflow: AirflowServer, dag_id: str) -> str:
    [run] = wait_until(
        lambda: airflow.request("GET", f"dags/{dag_id}/dagRuns")["dag_runs"], f"a run of {dag_id}", SOON_SECONDS
    )
    assert run["run_type"] == "asset_triggered"
    assert airflow.wait_for_run(dag_id, run["dag_run_id"])["state"] == "success"
    return str(run["dag_run_id"])


def test_the_day_travels_along_the_chain(airflow: AirflowServer) -> None:
    dag_ids = [f"prod.{name}.batch" for name in ("first", "second", "third")]
    for dag_id in dag_ids:
        airflow.wait_for_dag(dag_id)
        airflow.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})
    run_id = airflow.trigger(dag_ids[0], logical_date="2025-03-05T12:00:00Z")
    assert airflow.wait_for_run(dag_ids[0], run_id)["state"] == "success"
    covered = {"ds": "2025-03-05", "start": "2025-03-05T12:00:00+00:00", "end": "2025-03-05T12:00:00+00:00"}
    for partition in (0, 1):
        assert airflow.xcom(dag_ids[0], run_id, "score", map_index=partition) == covered
    for dag_id in dag_ids[1:]:
        assert airflow.xcom(dag_id, started_run(airflow, dag_id), "score") == covered
