"""An API server that only notes what it is asked, and the connections that lead there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
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


@pytest.fixture
def api_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the Kubernetes API server of the connection ``k8s_prod`` is asked; it refuses everything."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _note(self) -> None:
            seen.append(f"{self.command} {self.path.partition('?')[0]}")
            self.send_response(403)
            self.end_headers()

        do_GET = do_POST = do_DELETE = do_PATCH = _note  # noqa: N815 - the names that BaseHTTPRequestHandler calls

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "here", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    kubernetes = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
    for name, connection in {
        "K8S_PROD": kubernetes,
        "MLFLOW_PROD": {"conn_type": "mlflow", "host": "http://127.0.0.1:9"},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    yield seen
    server.shutdown()
    server.server_close()


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
