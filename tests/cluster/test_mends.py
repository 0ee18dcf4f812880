"""Failures of the plain pod operator and what ours does instead: the same pod, the same fault, on the real cluster.

The plain operator's outcome is asserted too: where a later release mends it, the test says so by failing.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Road, Trainer

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def model(trainer: Trainer) -> None:
    trainer.train("/tests/mends", seed=1, tags={"stage": "prod"})


def pods(kube: Any, road: Road, name: str) -> list[Any]:
    return list(kube.list_namespaced_pod(road.storage.namespace, label_selector=f"mend={name}").items)


def assert_ends(road: Road, name: str, run_id: str, outcome: str) -> None:
    state = road.airflow.wait_for_run(f"mends.{name}", run_id, timeout_seconds=240)["state"]
    if state != outcome:
        (task,) = road.airflow.task_instances(f"mends.{name}", run_id)
        tries = range(1, task["try_number"] + 1)
        lines = [
            line for number in tries for line in road.airflow.logs(f"mends.{name}", run_id, "pod", try_number=number)
        ]
        pytest.fail(f"{name} ended {state}, not {outcome}\n" + "\n".join(lines))


def wait_for(condition: Any, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail("did not happen in time")
        time.sleep(0.3)
    return found


@pytest.mark.parametrize(("kind", "outcome"), [("plain", "success"), ("ours", "failed")])
def test_terminated_task_is_never_a_success(kube: Any, road: Road, kind: str, outcome: str) -> None:
    name = f"terminated-{kind}-sync"
    road.airflow.wait_for_dag(f"mends.{name}")
    run_id = road.airflow.trigger(f"mends.{name}")
    wait_for(lambda: any(pod.status.phase == "Running" for pod in pods(kube, road, name)))
    (task,) = road.airflow.task_instances(f"mends.{name}", run_id)

    os.kill(task["pid"], signal.SIGTERM)

    try:
        assert_ends(road, name, run_id, outcome)
        (pod,) = pods(kube, road, name)
        assert pod.metadata.deletion_timestamp is not None
    finally:
        for pod in pods(kube, road, name):
            kube.patch_namespaced_pod(pod.metadata.name, road.storage.namespace, {"metadata": {"finalizers": None}})
    wait_for(lambda: not pods(kube, road, name), 60)
    if kind == "ours":
        assert "told to stop" in "\n".join(road.airflow.logs(f"mends.{name}", run_id, "pod"))


@pytest.mark.parametrize("mode", ["sync", "deferrable"])
@pytest.mark.parametrize(("kind", "outcome"), [("plain", "failed"), ("ours", "success")])
def test_lost_create_reply(kube: Any, road: Road, kind: str, mode: str, outcome: str) -> None:
    name = f"lost-reply-{kind}-{mode}"
    road.airflow.wait_for_dag(f"mends.{name}")
    run_id = road.airflow.trigger(f"mends.{name}")

    assert_ends(road, name, run_id, outcome)
    left = pods(kube, road, name)
    if kind == "plain":
        assert len(left) == 1, "the pod that nobody watches any more"
        kube.delete_namespaced_pod(left[0].metadata.name, road.storage.namespace)
    else:
        assert not [pod for pod in left if pod.metadata.deletion_timestamp is None]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("early-end-plain-sidecar", None),
        ("early-end-ours-sidecar", {"rows": 3}),
        ("early-end-ours-sync", {"rows": 3}),
        ("early-end-ours-deferrable", {"rows": 3}),
    ],
)
def test_result_of_a_pod_that_ended_before_the_deferral(road: Road, name: str, result: Any) -> None:
    road.airflow.wait_for_dag(f"mends.{name}")
    run_id = road.airflow.trigger(f"mends.{name}")

    assert_ends(road, name, run_id, "success")
    (task,) = road.airflow.task_instances(f"mends.{name}", run_id)
    assert task["try_number"] == 2, "the first try was killed"
    second = "\n".join(road.airflow.logs(f"mends.{name}", run_id, "pod", try_number=2))
    assert "DEFERRED" not in second, "there was nothing to wait for"
    assert road.airflow.xcom(f"mends.{name}", run_id, "pod") == result
