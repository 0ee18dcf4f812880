"""Asking an endpoint: a certain pod through the API server, or the service by its address.

Decides how a question travels; what is asked and what counts as an answer is
:mod:`airflow_mlops_provider.manifests.inference_service_request`'s. Does I/O.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote

from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, error_of
from airflow_mlops_provider.hooks.kubernetes_access import missing_permission
from airflow_mlops_provider.manifests.inference_service import PREDICTOR_CONTAINER

ANSWER_SECONDS: Final = 30.0
_DEFAULT_PORT: Final = 8080


@dataclass(frozen=True)
class Answer:
    """What came back.

    :param status: 0 where nothing did; then the body says why.
    :param source: the pod or address that was asked.
    """

    status: int
    body: str
    latency_seconds: float
    source: str

    def json(self) -> Any:
        """Return the body as JSON types."""
        return json.loads(self.body)


class Door(Protocol):
    """A way to an endpoint."""

    @property
    def name(self) -> str: ...

    def ask(self, method: str, path: str, body: Any = None) -> Answer: ...


class PodDoor:
    """Ask one pod through the API server's proxy: the very pod, reachable wherever the API server is."""

    def __init__(self, hook: KServeHook, pod: Mapping[str, Any]) -> None:
        self._hook, self._pod = hook, pod
        self.name = f"pod {pod['metadata']['name']}"

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        started = time.monotonic()
        status, text = self._hook.send(ask_pod(self._pod, method, path, body), timeout_seconds=ANSWER_SECONDS)
        if status == 403 and missing_permission(text):
            raise error_of(status, text, self.name)  # the API server's answer, not the pod's
        return Answer(status, text, time.monotonic() - started, self.name)


class UrlDoor:
    """Ask the service as its clients do."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.name = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", **(headers or {})}

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        import httpx

        started = time.monotonic()
        content = None if body is None else json.dumps(body)
        try:
            answer = httpx.request(
                method, self.name + path, content=content, headers=self._headers, timeout=ANSWER_SECONDS
            )
        except httpx.HTTPError as error:
            return Answer(0, f"{type(error).__name__}: {error}", time.monotonic() - started, self.name)
        return Answer(answer.status_code, answer.text, time.monotonic() - started, self.name)


def ask_pod(pod: Mapping[str, Any], method: str, path: str, body: Any = None) -> KubeRequest:
    """Return the request that the API server hands on to a pod."""
    metadata = pod["metadata"]
    base = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{port_of(pod)}/proxy"
    return KubeRequest(method=method, path=base + quote(path, safe="/:?=&"), body=body)


def port_of(pod: Mapping[str, Any]) -> int:
    """Return the port on which a pod serves HTTP."""
    containers = pod["spec"]["containers"]
    served = next((item for item in containers if item["name"] == PREDICTOR_CONTAINER), containers[0])
    ports = served.get("ports") or ()
    return int(ports[0]["containerPort"]) if ports else _DEFAULT_PORT
