"""A server made of values: answers by endpoint, and a record of what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pytest

from airflow_mlops_provider.hooks.mlflow_api import Conversation, Request, Response, replay

T = TypeVar("T")

MLMODEL = b"artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.sklearn\nrun_id: r\n"

Answer = Response | Mapping[str, Any] | bytes | Callable[[Request], Any]


class Answers:
    """Answer by the end of the path. What is not listed is MLflow's own 404."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.path.rpartition('mlflow/')[2]}")
        self.requests.append(request)
        for suffix, answer in self.answers.items():
            if request.path.endswith(suffix):
                value = answer(request) if callable(answer) else answer
                return _response(value)
        return error(404, "RESOURCE_DOES_NOT_EXIST", "no such thing not found")

    def hold(self, conversation: Conversation[T]) -> T:
        self.asked.clear()
        return replay(conversation, self)


def _response(value: Any) -> Response:
    if isinstance(value, Response):
        return value
    if isinstance(value, bytes):
        return Response(200, value, "text/plain")
    return Response(200, json.dumps(value).encode())


def error(status: int, code: str, message: str) -> Response:
    return Response(status, json.dumps({"error_code": code, "message": message}).encode(), url="http://mlflow.test/x")


def run_row(run_id: str = "a" * 32, *, start: int = 1000, **changes: Any) -> dict[str, Any]:
    tags = {"mlflow.source.git.commit": "c0ffee", **changes.get("tags", {})}
    return {
        "info": {
            "run_id": run_id,
            "experiment_id": "7",
            "status": changes.get("status", "FINISHED"),
            "lifecycle_stage": changes.get("stage", "active"),
            "start_time": start,
            "artifact_uri": f"mlflow-artifacts:/7/{run_id}/artifacts",
        },
        "data": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        "outputs": {"model_outputs": [{"model_id": one, "step": 0} for one in changes.get("models", ())]},
    }


def model_row(model_id: str, name: str = "model", **changes: Any) -> dict[str, Any]:
    info = {
        "model_id": model_id,
        "experiment_id": "7",
        "name": name,
        "artifact_uri": f"mlflow-artifacts:/7/models/{model_id}/artifacts",
        "status": "LOGGED_MODEL_READY",
        "source_run_id": "a" * 32,
        **changes,
    }
    return {"info": info, "data": {}}


@pytest.fixture
def answers() -> type[Answers]:
    return Answers


@pytest.fixture
def rows() -> Any:
    """Builders of MLflow's rows: ``rows.run()``, ``rows.model()``, ``rows.error()``, ``rows.mlmodel``."""
    return type(
        "Rows",
        (),
        {
            "run": staticmethod(run_row),
            "model": staticmethod(model_row),
            "error": staticmethod(error),
            "mlmodel": MLMODEL,
        },
    )
