"""A Kubernetes API server that holds one service's objects and fails on demand: what a real one cannot be asked to do.

Speaks as much of the protocol as :mod:`airflow_mlops_provider.hooks.kserve_api` uses: lists, watches, apply, delete.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = ("deployments", "replicasets", "pods", "events", "inferenceservices")
#: A watch that nothing happens on ends after this long, so that a test does not hang.
_WATCH_SECONDS = 5.0


class ApiServer:
    """What the server holds and how it fails.

    :ivar objects: plural → objects.
    :ivar refusals: answers to the next requests, ``(status, message)``, before any other.
    :ivar watch_lines: what the next watches send instead of waiting for a change.
    :ivar missing_bytes: how much of every answer is announced and never sent.
    :ivar refused_seconds: a clock for tests: each refusal takes 250 s on it.
    :ivar requests: ``GET /api/v1/…``, ``WATCH /api/v1/…`` as they came.
    """

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self.refusals: list[tuple[int, str]] = []
        self.watch_lines: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.refused_seconds = 0.0
        self.missing_bytes = 0
        self._changed = threading.Condition()
        self._version = 1

    def change(self, **objects: list[dict[str, Any]]) -> None:
        """Replace objects by kind; everybody who watches is told."""
        with self._changed:
            self.objects |= objects
            self._version += 1
            self._changed.notify_all()

    def wait_for_request(self, text: str, times: int = 1, seconds: float = 30) -> None:
        with self._changed:
            came = self._changed.wait_for(lambda: sum(text in line for line in self.requests) >= times, seconds)
            assert came, self.requests

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        with self._changed:
            self.requests.append(f"{'WATCH' if 'watch' in query else method} {path}")
            self._changed.notify_all()
            if self.refusals:
                self.refused_seconds += 250
                status, message = self.refusals.pop(0)
                return status, {"kind": "Status", "message": message}
            parts = path.split("/")
            plural = next(part for part in parts if part in KINDS)
            if "watch" in query:
                return 200, self._watch(query["resourceVersion"][0])
            if parts[-1] == plural:
                return 200, {"metadata": {"resourceVersion": str(self._version)}, "items": self.objects[plural]}
            found = next((item for item in self.objects[plural] if item["metadata"]["name"] == parts[-1]), None)
            if method == "PATCH":
                return 200, {**body, "metadata": {**body["metadata"], "uid": "u1", "generation": 1}}
            return (200, found) if found else (404, {"message": f"{plural} {parts[-1]!r} not found"})

    def _watch(self, version: str) -> Any:
        if self.watch_lines:
            return self.watch_lines.pop(0)
        self._changed.wait_for(lambda: self._version > int(version), _WATCH_SECONDS)
        return {"type": "MODIFIED", "object": {}}


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            address = urlsplit(self.path)
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = server.answer(self.command, address.path, parse_qs(address.query), body)
            content = json.dumps(answer).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content) + server.missing_bytes))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = True

        do_GET = do_PATCH = do_DELETE = _respond  # noqa: N815 - the names that BaseHTTPRequestHandler calls

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serve(kubeconfig: Path) -> Iterator[ApiServer]:
    """Serve on a free port, and write the kubeconfig that leads there."""
    state = ApiServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{http.server_port}"}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    yield state
    http.shutdown()
    http.server_close()


def service(**metadata: Any) -> dict[str, Any]:
    """Return a ready InferenceService of spec ``new0``."""
    return {
        "kind": "InferenceService",
        "metadata": {"name": "churn", "namespace": "ml", "uid": "u1", "generation": 1, **metadata},
        "spec": {"predictor": {"annotations": {"airflow-mlops/spec-hash": "new0"}}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def rolled_out(*, ready: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of a rollout of ``new0``, over or not."""
    numbers = dict.fromkeys(("updatedReplicas", "readyReplicas", "availableReplicas", "replicas"), int(ready))
    sealed = {"airflow-mlops/spec-hash": "new0"}
    deployment = {
        "metadata": {"name": "churn-predictor", "generation": 1, "uid": "d1"},
        "spec": {"replicas": 1, "selector": {}, "template": {"metadata": {"annotations": sealed}}},
        "status": {"observedGeneration": 1, **numbers},
    }
    pod = {
        "metadata": {"name": "p1", "namespace": "ml", "uid": "p1", "annotations": sealed},
        "spec": {"containers": []},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }
    return {"deployments": [deployment], "pods": [pod]}
