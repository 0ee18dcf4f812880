"""The main job: a tagged MLflow run and a YAML in Git become predictions made by a pod."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Road, Trained, Trainer

pytestmark = pytest.mark.cluster

SCORE = {
    "input": "file:///data/in/",
    "key_columns": ["id"],
    "resources": {"cpu": "500m", "memory": "1Gi"},
    "retries": 0,
}


def write_input(directory: Path, rows: pd.DataFrame, files: int = 1) -> None:
    """Put *rows* with an ``id`` where pods read them, in *files* parts."""
    directory.mkdir(parents=True, exist_ok=True)
    for place in (directory, directory.parent):
        place.chmod(0o777)
    numbered = rows.assign(id=range(len(rows)))
    for part in range(files):
        numbered.iloc[part::files].to_parquet(directory / f"part-{part}.parquet", index=False)


def read_predictions(directory: Path) -> list[float]:
    """Return the second class's probabilities in the order of ``id``."""
    frame = pd.concat([pd.read_parquet(file) for file in sorted(directory.glob("*.parquet"))])
    frame = frame.sort_values("id")
    assert frame["id"].tolist() == list(range(len(frame)))
    return [float(value) for value in frame["prediction_1"]]


def run(road: Road, dag_id: str, conf: dict[str, Any] | None = None, *, timeout_seconds: float = 240) -> str:
    run_id = road.airflow.trigger(dag_id, conf=conf)
    state = road.airflow.wait_for_run(dag_id, run_id, timeout_seconds=timeout_seconds)["state"]
    if state != "success":
        tasks = [task for task in road.airflow.task_instances(dag_id, run_id) if task["try_number"]]
        logs = [line for task in tasks for line in road.airflow.logs(dag_id, run_id, task["task_id"])]
        pytest.fail(f"{dag_id} ended {state}\n" + "\n".join(logs))
    return run_id


@pytest.mark.parametrize(("environment", "mode"), [("prod", "sync"), ("deferred", "deferrable")])
def test_tagged_model_scores_in_a_pod_and_a_new_tag_needs_no_push(
    road: Road, trainer: Trainer, environment: str, mode: str
) -> None:
    name = f"tumours-{mode}"
    first = trainer.train(f"/tests/{name}", seed=1, tags={"stage": "prod"})
    write_input(road.storage.directory / name / "in", first.rows)
    places = {"input": f"file:///data/{name}/in/", "output": f"file:///data/{name}/out/"}
    road.push(name, batch={**SCORE, **places}, environments={environment: {}})
    dag_id = f"{environment}.{name}.batch"
    road.airflow.wait_for_dag(dag_id)

    run_id = run(road, dag_id)

    assert read_predictions(road.storage.directory / name / "out") == first.predictions
    result = road.airflow.xcom(dag_id, run_id, "score")
    assert result["rows"] == len(first.rows)
    model = road.airflow.xcom(dag_id, run_id, "score", key="resolved_model")
    assert (model["uri"], model["run_id"]) == (f"models:/{first.model_id}", first.run_id)
    assert model["git_commit"] == "5c1e0b4e7d3f4b7f9d2a6c8e1f0a9b8c7d6e5f40"
    links = road.airflow.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/score/links")
    assert first.run_id in json.dumps(links)

    versions = len(road.airflow.dag_versions(dag_id))
    second = trainer.train(f"/tests/{name}", seed=7, tags={"stage": "prod"})
    assert second.predictions != first.predictions
    write_input(road.storage.directory / name / "in", second.rows)
    run_id = run(road, dag_id)

    assert road.airflow.xcom(dag_id, run_id, "score", key="resolved_model")["run_id"] == second.run_id
    assert read_predictions(road.storage.directory / name / "out") == second.predictions
    assert len(road.airflow.dag_versions(dag_id)) == versions


def test_person_may_choose_another_run_and_another_interval(road: Road, trainer: Trainer) -> None:
    name = "chosen"
    older = trainer.train(f"/tests/{name}", seed=2)
    trainer.train(f"/tests/{name}", seed=3, tags={"stage": "prod"})
    places = {"input": f"file:///data/{name}/{{{{ ds }}}}/", "output": f"file:///data/{name}/out/{{{{ ds }}}}/"}
    write_input(road.storage.directory / name / "2025-12-01", older.rows)
    road.push(name, batch={**SCORE, **places}, environments={"prod": {}})
    dag_id = f"prod.{name}.batch"
    road.airflow.wait_for_dag(dag_id)

    conf = {"model_run_id": older.run_id, "data_interval_start": "2025-12-01T00:00:00+00:00"}
    run(road, dag_id, {**conf, "data_interval_end": "2025-12-02T00:00:00+00:00"})

    assert read_predictions(road.storage.directory / name / "out" / "2025-12-01") == older.predictions


def test_partitions_are_pods_that_share_one_model(road: Road, trainer: Trainer) -> None:
    name = "parts"
    trained = trainer.train(f"/tests/{name}", seed=4, tags={"stage": "prod"})
    write_input(road.storage.directory / name / "in", trained.rows, files=3)
    places = {"input": f"file:///data/{name}/in/", "output": f"file:///data/{name}/out/"}
    road.push(name, batch={**SCORE, **places, "partitions": 2}, environments={"deferred": {}})
    dag_id = f"deferred.{name}.batch"
    road.airflow.wait_for_dag(dag_id)

    run_id = run(road, dag_id)

    assert len(list((road.storage.directory / name / "out").glob("*.parquet"))) == 2
    assert read_predictions(road.storage.directory / name / "out") == trained.predictions
    results = [road.airflow.xcom(dag_id, run_id, "score", map_index=index) for index in (0, 1)]
    assert sum(result["rows"] for result in results) == len(trained.rows)
    assert {result["model_uri"] for result in results} == {f"models:/{trained.model_id}"}


def test_retry_keeps_the_model_and_clearing_resolves_again(road: Road, trainer: Trainer) -> None:
    name = "pinned"
    first = trainer.train(f"/tests/{name}", seed=5, tags={"stage": "prod"})
    directory = road.storage.directory / name
    directory.mkdir()
    directory.chmod(0o777)
    # Fails until somebody says go on; writes down which model each try was given.
    script = f"echo $MODEL_RUN_ID >> /data/{name}/tries; test -e /data/{name}/go-on"
    batch = {"command": ["sh", "-c", script], "retries": 20, "retry_delay": "1s"}
    road.push(name, batch=batch, environments={"prod": {}})
    dag_id = f"prod.{name}.batch"
    road.airflow.wait_for_dag(dag_id)
    run_id = road.airflow.trigger(dag_id)
    _wait_for(lambda: (directory / "tries").exists(), 120)
    second = trainer.train(f"/tests/{name}", seed=6, tags={"stage": "prod"})
    before = len(_lines(directory / "tries"))
    _wait_for(lambda: len(_lines(directory / "tries")) > before + 1, 120)
    (directory / "go-on").touch()
    assert road.airflow.wait_for_run(dag_id, run_id)["state"] == "success"
    assert set(_lines(directory / "tries")) == {first.run_id}

    clear = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "task_ids": ["score"]}
    road.airflow.request("POST", f"dags/{dag_id}/clearTaskInstances", json=clear)
    _wait_for(lambda: _lines(directory / "tries")[-1] == second.run_id, 120)
    assert road.airflow.wait_for_run(dag_id, run_id)["state"] == "success"


def test_unanswered_selector_fails_at_once_and_says_why(road: Road, trainer: Trainer) -> None:
    name = "nothing"
    trained: Trained = trainer.train(f"/tests/{name}", seed=1, tags={"stage": "prod"})
    trainer.client.delete_run(trained.run_id)
    places = {"input": f"file:///data/{name}/in/", "output": f"file:///data/{name}/out/"}
    road.push(name, batch={**SCORE, **places, "retries": 5}, environments={"prod": {}})
    dag_id = f"prod.{name}.batch"
    road.airflow.wait_for_dag(dag_id)
    run_id = road.airflow.trigger(dag_id)

    assert road.airflow.wait_for_run(dag_id, run_id)["state"] == "failed"
    (task,) = road.airflow.task_instances(dag_id, run_id)
    assert task["try_number"] == 1
    log = "\n".join(road.airflow.logs(dag_id, run_id, "score"))
    assert "ModelNotFoundError" in log
    assert f"/tests/{name}" in log
    assert "stage" in log


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def _wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("did not happen in time")
        time.sleep(0.5)
