"""An API server that only notes what it is asked, and the connections that lead there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

MODEL = {
    "uri": "models:/m-0",
    "source_uri": "s3://models/m-0/",
    "run_id": "0" * 32,
    "experiment_id": "1",
    "model_id": "m-0",
    "name": "churn",
    "version": None,
    "digest": "sha256:0",
    "git_commit": None,
    "run_url": None,
    "resolved_at": "2026-01-01T00:00:00+00:00",
}


class KubeApi:
    """An API server that gives fixed answers, and notes what it was asked.

    :param answers: ``"GET /path"`` → status and body; anything else is answered as *otherwise* says.
    """

    def __init__(self, directory: Path, answers: dict[str, tuple[int, Any]], otherwise: int) -> None:
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                asked = f"{self.command} {self.path.partition('?')[0]}"
                api.asked.append(asked)
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api.bodies.append(json.loads(sent) if sent else None)
                status, body = answers.get(asked, (otherwise, {}))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815 - the names that BaseHTTPRequestHandler calls

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.kubeconfig = directory / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{self.server.server_port}"}}],
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make it the API server of the connection ``k8s_prod``; nothing listens at ``mlflow_prod``."""
        kubernetes = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(self.kubeconfig)}}
        mlflow = {"conn_type": "mlflow", "host": "http://127.0.0.1:9", "extra": {"total_seconds": 0.2}}
        for name, connection in {"K8S_PROD": kubernetes, "MLFLOW_PROD": mlflow}.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the Kubernetes API server of the connection ``k8s_prod`` is asked; it refuses everything."""
    api = KubeApi(tmp_path, {}, 403)
    api.connect(monkeypatch)
    yield api.asked
    api.close()


@pytest.fixture
def kube_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], KubeApi]]:
    """Start the API server of the connection ``k8s_prod`` with the answers that a test gives; the rest is not found."""
    started: list[KubeApi] = []

    def start(answers: dict[str, tuple[int, Any]]) -> KubeApi:
        started.append(KubeApi(tmp_path, answers, 404))
        started[-1].connect(monkeypatch)
        return started[-1]

    yield start
    for api in started:
        api.close()


def build_context() -> dict[str, Any]:
    """Return as much of a task's context as the operators read."""
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    instance = SimpleNamespace(
        xcom_push=lambda **_: None,
        max_tries=0,
        dag_id="d",
        task_id="score",
        run_id="r",
        try_number=1,
        map_index=-1,
    )
    return {
        "dag_run": SimpleNamespace(run_after=noon),
        "params": {},
        "run_id": "r",
        "ti": instance,
        "task_instance": instance,
        "dag": SimpleNamespace(dag_id="d"),
        "logical_date": noon,
    }


@pytest.fixture
def context() -> dict[str, Any]:
    return build_context()


@pytest.fixture
def resolved() -> dict[str, Any]:
    return dict(MODEL)
