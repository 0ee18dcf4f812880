"""The sensor: patient with what is not there yet, and red at what is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parents[1]))
from kserve_api_server import ApiServer, rolled_out, serve, service

from airflow_mlops_provider.exceptions import DeploymentTimeoutError
from airflow_mlops_provider.sensors.kserve import KServeReadySensor


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}
    monkeypatch.setenv("AIRFLOW_CONN_K8S_FAKE", json.dumps(connection))
    with serve(tmp_path / "kubeconfig") as state:
        yield state


def run(**changes: Any) -> Any:
    arguments = {"spec_hash": "new0", "timeout_seconds": 0, "poll_interval_seconds": 0.01, **changes}
    sensor = KServeReadySensor(
        task_id="ready", name="churn", namespace="ml", kubernetes_conn_id="k8s_fake", deferrable=False, **arguments
    )
    return sensor.execute({})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("spec_hash", ["new0", None])
def test_version_that_is_ready(server: ApiServer, spec_hash: str | None) -> None:
    server.change(inferenceservices=[service()], **rolled_out())
    assert run(spec_hash=spec_hash) == {"name": "churn", "namespace": "ml", "spec_hash": "new0", "pods": ["p1"]}


def test_waits_for_an_object_that_is_not_there(server: ApiServer) -> None:
    with pytest.raises(DeploymentTimeoutError, match="not ready in time: it is not there"):
        run()


def test_waits_for_another_spec(server: ApiServer) -> None:
    server.change(inferenceservices=[service()], **rolled_out())
    with pytest.raises(DeploymentTimeoutError, match=r"another spec \(new0, not git-7\)"):
        run(spec_hash="git-7")


def test_lost_rollout_ends_the_wait(server: ApiServer) -> None:
    objects = rolled_out(ready=False)
    status = {"name": "kserve-container", "image": "a b", "state": {"waiting": {"reason": "InvalidImageName"}}}
    objects["pods"][0]["status"]["containerStatuses"] = [status]
    server.change(inferenceservices=[service()], **objects)
    with pytest.raises(AirflowFailException, match="image a b of container kserve-container cannot be pulled"):
        run(timeout_seconds=60)


def test_deferred_wait_goes_on_from_the_triggers_event(server: ApiServer) -> None:
    server.change(inferenceservices=[service()], **rolled_out())
    sensor = KServeReadySensor(
        task_id="ready", name="churn", namespace="ml", kubernetes_conn_id="k8s_fake", deferrable=True
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})  # type: ignore[typeddict-item]
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.trigger.serialize()[1]["target"]["patient"] is True
    event = {"state": "ready", "cause": "", "pods": ["p1"]}
    assert sensor.execute_complete({}, event)["pods"] == ["p1"]  # type: ignore[typeddict-item]
