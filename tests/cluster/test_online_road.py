"""The online road: a tagged MLflow run and a YAML in Git become a KServe endpoint that answers, watched by a probe."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import kind_of, serving

__all__ = ["serving"]

if TYPE_CHECKING:
    from conftest import Road, Trained, Trainer

pytestmark = pytest.mark.cluster

_SPEC = importlib.util.spec_from_file_location("road_steps", Path(__file__).with_name("test_road.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
steps = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(steps)

NAME = "tumours-online"
ONLINE = {
    "resources": {"cpu": "300m", "memory": "1Gi"},
    "timeout": "4m",
    "smoke_test": {"expect_shape": [2, 2], "max_latency": "10s"},
}


@pytest.fixture(scope="module")
def first(trainer: Trainer) -> Trained:
    """The first model, version 1 of a registered one."""
    trained = trainer.train(f"/tests/{NAME}", seed=1, tags={"stage": "prod"})
    trainer.client.create_registered_model("tumours_online")
    trainer.client.create_model_version(
        "tumours_online", f"models:/{trained.model_id}", trained.run_id, model_id=trained.model_id
    )
    return trained


@pytest.fixture(scope="module")
def second(trainer: Trainer) -> Trained:
    """A newer model; it gets its tag in the test that deploys it."""
    return trainer.train(f"/tests/{NAME}", seed=5)


def push(road: Road, **online: Any) -> None:
    fields = {**ONLINE, "probe": {"every": "1d"}, **online}
    road.push(NAME, registered_model="tumours_online", online=fields, environments={"prod": {}})


@pytest.fixture(scope="module")
def declared(road: Road, serving: Any, storage_secret: None, first: Trained) -> None:
    push(road)
    for kind in ("online", "probe"):
        road.airflow.wait_for_dag(f"prod.{NAME}.{kind}")


def predict(kube: Any, namespace: str, name: str, rows: Any) -> tuple[list[float], str]:
    """Ask the service's own address as a client does; return the predictions and which model says it answered."""
    service = kube.read_namespaced_service(f"{name}-predictor", namespace)
    address = f"http://{service.spec.cluster_ip}:{service.spec.ports[0].port}"
    body = {"dataframe_split": rows.to_dict(orient="split", index=False)}
    answer = httpx.post(f"{address}/invocations", json=body, timeout=30, trust_env=False).raise_for_status()
    return [row[1] for row in answer.json()["predictions"]], answer.headers["X-Model-Uri"]


def remove(serving: Any, namespace: str, name: str) -> None:
    """Delete a service; what its pods asked for is the next test's."""
    kind_of(serving.kubeconfig, "InferenceService").delete(name=name, namespace=namespace)


def endpoint_events(road: Road, asset: str) -> list[dict[str, Any]]:
    """Return what deployments recorded, oldest first."""
    found = road.airflow.request("GET", "assets/events", params={"name_pattern": asset, "order_by": "timestamp"})
    return [event["extra"] for event in found["asset_events"] if event["name"] == asset]


@pytest.mark.timeout(600)
def test_tagged_model_becomes_an_endpoint_that_predicts(road: Road, kube: Any, declared: None, first: Trained) -> None:
    dag_id = f"prod.{NAME}.online"
    run_id = steps.run(road, dag_id)

    assert predict(kube, road.storage.namespace, NAME, first.rows) == (first.predictions, f"models:/{first.model_id}")
    deployed = road.airflow.xcom(dag_id, run_id, "deploy")
    assert (deployed["created"], deployed["model"]["run_id"]) == (True, first.run_id)
    seen = road.airflow.xcom(dag_id, run_id, "verify")
    assert (seen["uid"], seen["model_uris"]) == (deployed["uid"], [f"models:/{first.model_id}"])
    (record,) = endpoint_events(road, f"prod.{NAME}.endpoint")
    assert record["dag_run"] == run_id
    assert record["declaration"] == f"models/{NAME}.yaml"
    assert record["service"] == {
        "name": NAME,
        "namespace": road.storage.namespace,
        "uid": deployed["uid"],
        "url": deployed["url"],
        "spec_hash": deployed["spec_hash"],
    }
    assert (record["model"]["uri"], record["model"]["git_commit"]) == (
        f"models:/{first.model_id}",
        "5c1e0b4e7d3f4b7f9d2a6c8e1f0a9b8c7d6e5f40",
    )


@pytest.mark.timeout(600)
def test_another_tag_is_another_model_and_no_new_dag(
    road: Road, kube: Any, trainer: Trainer, declared: None, second: Trained
) -> None:
    dag_id = f"prod.{NAME}.online"
    versions = len(road.airflow.dag_versions(dag_id))
    trainer.client.set_tag(second.run_id, "stage", "prod")

    steps.run(road, dag_id)

    predictions, model_uri = predict(kube, road.storage.namespace, NAME, second.rows)
    assert (predictions, model_uri) == (second.predictions, f"models:/{second.model_id}")
    assert len(road.airflow.dag_versions(dag_id)) == versions


@pytest.mark.timeout(600)
def test_version_picked_in_the_form_rolls_back(road: Road, kube: Any, declared: None, first: Trained) -> None:
    steps.run(road, f"prod.{NAME}.online", {"model_version": "1"})

    predictions, model_uri = predict(kube, road.storage.namespace, NAME, first.rows)
    assert (predictions, model_uri) == (first.predictions, "models:/tumours_online/1")
    assert endpoint_events(road, f"prod.{NAME}.endpoint")[-1]["model"]["version"] == "1"


@pytest.mark.timeout(600)
def test_canary_is_tried_before_it_serves(
    road: Road, kube: Any, trainer: Trainer, declared: None, second: Trained
) -> None:
    dag_id = f"prod.{NAME}.online"
    trainer.client.set_tag(second.run_id, "stage", "prod")
    push(road, canary={"steps": [50], "bake": "5s"})

    def has_canary() -> bool:
        task = road.airflow.request("GET", f"dags/{dag_id}/tasks/deploy")
        return bool(task["class_ref"]["class_name"] == "KServeCanaryOperator")

    steps._wait_for(has_canary, 120)
    run_id = steps.run(road, dag_id, timeout_seconds=420)

    told = road.airflow.xcom(dag_id, run_id, "deploy")["canary"]
    assert told["verdict"] == "promoted"
    assert [item["requests"] > 0 for item in told["measurements"]] == [True]
    predictions, model_uri = predict(kube, road.storage.namespace, NAME, second.rows)
    assert (predictions, model_uri) == (second.predictions, f"models:/{second.model_id}")


@pytest.mark.timeout(600)
def test_probe_is_green_while_it_serves_and_red_when_it_is_gone(
    road: Road, serving: Any, declared: None, second: Trained
) -> None:
    dag_id = f"prod.{NAME}.probe"
    run_id = steps.run(road, dag_id)
    assert road.airflow.xcom(dag_id, run_id, "probe")["model_uris"] == [f"models:/{second.model_id}"]

    remove(serving, road.storage.namespace, NAME)
    run_id = road.airflow.trigger(dag_id)

    assert road.airflow.wait_for_run(dag_id, run_id, timeout_seconds=180)["state"] == "failed"
    log = "\n".join(road.airflow.logs(dag_id, run_id, "probe"))
    assert f"{road.storage.namespace}/{NAME}" in log
    assert "PredictionFailedError" in log


@contextmanager
def argo_cd(road: Road, kubeconfig: Path) -> Iterator[None]:
    """Do what Argo CD does, which needs more than this machine has: apply what the branch says, and nothing else."""
    service = kind_of(kubeconfig, "InferenceService")
    over = threading.Event()

    def synchronise() -> None:
        while not over.wait(1):
            road.gitops.git("fetch", "--quiet", "origin")
            for path in road.gitops.git("ls-tree", "-r", "--name-only", "origin/main").split():
                if path.endswith(".yaml"):
                    body = yaml.safe_load(road.gitops.git("show", f"origin/main:{path}"))
                    service.server_side_apply(body=body, field_manager="argocd-controller", force_conflicts=True)

    thread = threading.Thread(target=synchronise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(600)
def test_where_argo_cd_writes_the_dag_commits_and_waits(
    road: Road, kube: Any, serving: Any, trainer: Trainer, storage_secret: None
) -> None:
    name = "tumours-gitops"
    trained = trainer.train(f"/tests/{name}", seed=3, tags={"stage": "prod"})
    road.push(name, online=ONLINE, environments={"gitops": {}})
    dag_id = f"gitops.{name}.online"
    road.airflow.wait_for_dag(dag_id)
    with argo_cd(road, serving.kubeconfig):
        run_id = steps.run(road, dag_id)
        predictions, model_uri = predict(kube, road.storage.namespace, name, trained.rows)
        again = steps.run(road, dag_id)

    assert (predictions, model_uri) == (trained.predictions, f"models:/{trained.model_id}")
    commit = road.airflow.xcom(dag_id, run_id, "commit")
    assert (commit["changed"], commit["path"]) == (True, f"gitops/{name}/inferenceservice.yaml")
    assert road.airflow.xcom(dag_id, again, "commit")["changed"] is False
    message = road.gitops.git("log", "-1", "--format=%B", commit["commit"])
    assert f"Model-Uri: models:/{trained.model_id}\n" in message
    assert f"Dag-Run: {dag_id} {run_id}" in message
    live = kind_of(serving.kubeconfig, "InferenceService").get(name=name, namespace=road.storage.namespace)
    assert {item.manager for item in live.metadata.managedFields if item.operation == "Apply"} == {"argocd-controller"}
    first, second = endpoint_events(road, f"gitops.{name}.endpoint")
    assert first["gitops_commit"] == second["gitops_commit"] == commit["commit"]
    assert first["service"]["uid"] == live.metadata.uid
    remove(serving, road.storage.namespace, name)
