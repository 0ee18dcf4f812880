"""The watch: one event for every way a wait can end, through lost connections and an API server that is away."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parents[1]))
from kserve_api_server import ApiServer, rolled_out, serve, service

from airflow_mlops_provider.exceptions import TransientError
from airflow_mlops_provider.hooks import kserve_watch
from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.manifests.rollout import Target
from airflow_mlops_provider.triggers.kserve import KServeRolloutTrigger

AWAY = (503, "the server is currently unable to handle the request")
NEVER = 4e9


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(kserve_watch, "_OUTAGE_PAUSE_SECONDS", 0.05)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}
    monkeypatch.setenv("AIRFLOW_CONN_K8S_FAKE", json.dumps(connection))
    with serve(tmp_path / "kubeconfig") as state:
        state.change(inferenceservices=[service()], **rolled_out(ready=False))
        yield state


def trigger(**changes: Any) -> KServeRolloutTrigger:
    target = Target(name="churn", namespace="ml", uid="u1", spec_hash="new0", generation=1)
    arguments = {
        "kubernetes_conn_id": "k8s_fake",
        "service": ServiceReference(name="churn", namespace="ml").to_dict(),
        "target": asdict(target),
        "deadline_seconds": NEVER,
    }
    return KServeRolloutTrigger(**{**arguments, **changes})


async def wait(server: ApiServer, change: Callable[[], None] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the trigger's only event; *change* happens once it watches."""

    async def run() -> list[Any]:
        return [event.payload async for event in trigger(**changes).run()]

    task = asyncio.create_task(run())
    if change is not None:
        await asyncio.to_thread(server.wait_for_request, "WATCH")
        await asyncio.to_thread(change)
    (event,) = await asyncio.wait_for(task, timeout=30)
    return dict(event)


async def test_change_to_ready_fires(server: ApiServer) -> None:
    event = await wait(server, lambda: server.change(**rolled_out()))
    assert (event["state"], event["pods"]) == ("ready", ("p1",))
    assert json.loads(json.dumps(event))["cause"] == "1 pods with spec new0 are ready"


@pytest.mark.parametrize(
    ("objects", "cause"),
    [
        ([], "was deleted"),
        ([service(uid="u2")], "was replaced"),
        ([service(generation=2)], "its spec was changed"),
        ([service(deletionTimestamp="2026-01-01T00:00:00Z")], "on its way out"),
    ],
)
async def test_hand_on_the_object_is_a_failure(server: ApiServer, objects: list[Any], cause: str) -> None:
    event = await wait(server, lambda: server.change(inferenceservices=objects))
    assert (event["state"], cause in event["cause"]) == ("failed", True), event


async def test_expired_watch_begins_with_a_list_again(server: ApiServer) -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    server.watch_lines = [gone] * 4

    def change() -> None:
        server.wait_for_request("GET /api/v1/namespaces/ml/pods", times=2)
        server.change(**rolled_out())

    assert (await wait(server, change))["state"] == "ready"


async def test_refused_watch_is_an_outage_that_passes(server: ApiServer) -> None:
    event = await wait(server, lambda: (server.refusals.extend([AWAY] * 6), server.change(**rolled_out())))
    assert event["state"] == "ready"


async def test_answer_that_breaks_off_is_an_outage(server: ApiServer) -> None:
    server.missing_bytes = 10

    def mend() -> None:
        server.missing_bytes = 0
        server.change(**rolled_out())

    task = asyncio.create_task(wait(server))
    await asyncio.to_thread(server.wait_for_request, "GET", 3)
    mend()
    assert (await task)["state"] == "ready"


@pytest.fixture
def clock(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass by refused requests alone."""
    own = SimpleNamespace(time=time.time, monotonic=lambda: server.refused_seconds)
    monkeypatch.setattr(kserve_watch, "time", own)


@pytest.mark.usefixtures("clock")
async def test_every_answer_starts_the_budget_anew(server: ApiServer) -> None:
    """Two outages of 500 s each, and the budget is 600 s."""
    server.refusals = [AWAY] * 2

    def again() -> None:
        server.refusals.extend([AWAY] * 2)
        server.change(**rolled_out())

    assert (await wait(server, again))["state"] == "ready"
    assert server.refused_seconds == 1000


@pytest.mark.usefixtures("clock")
async def test_outage_beyond_the_budget_is_transient(server: ApiServer) -> None:
    server.refusals = [AWAY] * 1000
    with pytest.raises(TransientError, match="answered 503"):
        await wait(server)
    assert 600 < server.refused_seconds < 1300


async def test_forbidden_is_not_an_outage(server: ApiServer) -> None:
    server.refusals = [(403, "cannot list resource pods")]
    event = await wait(server)
    assert event["state"] == "failed"
    assert "it cannot be watched" in event["cause"]
    assert "cannot list resource pods; see deploy/kserve/rbac.yaml" in event["cause"]


async def test_unknown_escapes_with_its_traceback(server: ApiServer) -> None:
    server.change(inferenceservices=[{"kind": "InferenceService"}])
    with pytest.raises(KeyError):
        await wait(server)


async def test_deadline_ends_the_wait(server: ApiServer) -> None:
    event = await wait(server, deadline_seconds=0.0)
    assert event["state"] == "waiting"


async def test_killed_task_deletes_only_if_it_made_the_object(server: ApiServer) -> None:
    await trigger().on_kill()
    assert server.requests == []
    await trigger(delete_on_kill=True).on_kill()
    (request,) = server.requests
    assert request.startswith("DELETE /apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices/churn")
