"""Whom a verification asks, how long, and what it takes for an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import DeploymentFailedError, PredictionFailedError
from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_http import Answer, PodDoor, UrlDoor, ask_pod, port_of
from airflow_mlops_provider.hooks.kserve_verify import find_doors, pass_smoke_test, stated_url, wait_until_loaded
from airflow_mlops_provider.manifests.inference_service_request import SmokeTest
from airflow_mlops_provider.manifests.rollout import Observation, carries_hash


class ScriptedDoor:
    """Gives one prepared answer after the other, the last one for ever."""

    name = "pod p1"

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any]] = []

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        self.asked.append((method, path, body))
        status, answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Answer(status, json.dumps(answer), 0.01, self.name)


def pod(name: str, spec_hash: str, *, ready: str = "True", ports: Any = None) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ml", "annotations": {"airflow-mlops/spec-hash": spec_hash}},
        "spec": {"containers": [{"name": "proxy"}, {"name": "kserve-container", "ports": ports or []}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_model_may_load_a_little_longer_than_its_pod_takes_to_be_ready() -> None:
    door = ScriptedDoor((503, {}), (200, {"ready": False}), (200, {"ready": True}))
    wait_until_loaded([door], "v1", "churn")
    assert [path for _, path, _ in door.asked] == ["/v1/models/churn"] * 3


def test_model_that_never_loads_is_named_with_its_last_answer() -> None:
    with pytest.raises(
        PredictionFailedError, match=r"pod p1: the model is not loaded: /v2/models/churn/ready answers 503"
    ):
        wait_until_loaded([ScriptedDoor((503, {"error": "loading"}))], "v2", "churn", seconds=0)


def test_every_pod_has_to_answer_the_smoke_test() -> None:
    doors = [ScriptedDoor((200, {"predictions": [1]})), ScriptedDoor((200, {"predictions": [2]}))]
    passed = pass_smoke_test(doors, SmokeTest(path="/invocations"), lambda: {"inputs": [0]}, lambda _: None)
    assert passed.answers == 2
    assert all(door.asked == [("POST", "/invocations", {"inputs": [0]})] for door in doors)


def test_one_pod_that_fails_is_enough() -> None:
    doors = [ScriptedDoor((200, {"predictions": [1]})), ScriptedDoor((500, {"error": "no such column"}))]
    with pytest.raises(PredictionFailedError, match=r"pod p1: the prediction failed: it answered 500.*no such column"):
        pass_smoke_test(doors, SmokeTest(path="/p", request={}), lambda: None, lambda _: None)


def test_doors_lead_to_the_ready_pods_that_are_meant() -> None:
    seen = Observation(service=None, pods=[pod("a", "new"), pod("b", "old"), pod("c", "new", ready="False")])
    hook = KServeHook("unused")
    assert [door.name for door in find_doors(hook, seen, "api-server")] == ["pod a", "pod b"]
    new = find_doors(hook, seen, "api-server", version=lambda item: carries_hash(item, "new"))
    assert [door.name for door in new] == ["pod a"]
    with pytest.raises(DeploymentFailedError, match="no pod is ready"):
        find_doors(hook, seen, "api-server", version=lambda item: carries_hash(item, "none"))


@pytest.mark.parametrize(
    ("status", "url"),
    [
        ({"url": "http://outer", "address": {"url": "http://inner"}}, "http://outer"),
        ({"address": {"url": "http://inner"}}, "http://inner"),
        ({}, None),
    ],
)
def test_address_is_the_one_that_kserve_states(status: dict[str, Any], url: str | None) -> None:
    assert stated_url({"status": status}) == url
    seen = Observation(service={"status": status})
    if url is None:
        with pytest.raises(DeploymentFailedError, match="use access='api-server'"):
            find_doors(KServeHook("unused"), seen, "url")
    else:
        assert [door.name for door in find_doors(KServeHook("unused"), seen, "url")] == [url]


def test_pod_is_asked_at_the_port_of_the_serving_container() -> None:
    served = pod("a", "new", ports=[{"containerPort": 9000}])
    assert port_of(served) == 9000
    assert port_of(pod("a", "new")) == 8080
    request = ask_pod(served, "POST", "/v2/models/x/infer", {})
    assert request.path == "/api/v1/namespaces/ml/pods/a:9000/proxy/v2/models/x/infer"
    assert PodDoor(KServeHook("unused"), served).name == "pod a"


@pytest.fixture
def address() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_address_is_asked_as_clients_do(address: str) -> None:
    answer = UrlDoor(address).ask("POST", "/invocations", {"inputs": [1]})
    assert (answer.status, answer.json(), answer.source) == (200, {"inputs": [1]}, address.rstrip("/"))


def test_address_where_nobody_listens_is_no_answer() -> None:
    answer = UrlDoor("http://127.0.0.1:9").ask("GET", "/")
    assert (answer.status, "ConnectError" in answer.body) == (0, True)
