"""Whatever a client sends: an answer, and never a failed server. A thousand broken requests against the real
application in this process, with a real model that accepts every value of the right type; and a model with a type hint.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

pytestmark = pytest.mark.integration

_REQUESTS = 1200
_MODEL = """
import mlflow

class Count(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [len(str(row)) for row in model_input.itertuples()]

mlflow.models.set_model(Count())
"""
_ROWS = [
    {"age": 1, "income": 2.5, "name": "a", "since": "2026-01-01", "member": True},
    {"age": 2, "income": 3, "name": "b", "since": "2026-01-02T03:04:05", "member": False},
]
_KINDS = {"age": "INT64", "income": "FP64", "name": "BYTES", "since": "BYTES", "member": "BOOL"}
_ODD: list[Any] = [
    None, True, 0, -1, 1.5, 2**53 + 1, 2**63, 2**70, "x", "", "NaN", [], {}, [[]], [1], [[1, 2], [3]], {"a": 1}, 1e400,
    "\ud800", [None], {"columns": 1}, {"data": 1},
]  # fmt: skip
_TYPES = [*["application/json"] * 12, "application/json; charset=utf-8", "text/plain", "application/cloudevents+json",
          "application/octet-stream"]  # fmt: skip


def _bodies() -> list[tuple[str, dict[str, Any]]]:
    names, lists = list(_KINDS), [list(row.values()) for row in _ROWS]
    tensors = [
        {"name": name, "shape": [2], "datatype": kind, "data": [row[name] for row in _ROWS]}
        for name, kind in _KINDS.items()
    ]
    binary = {"outputs": [{"name": "output-0", "parameters": {"binary_data": True}}]}
    return [
        ("/v1/models/m:predict", {"instances": _ROWS}),
        ("/v1/models/m:predict", {"instances": lists}),
        ("/invocations", {"dataframe_split": {"columns": names, "data": lists}}),
        ("/invocations", {"dataframe_records": _ROWS, "params": {"factor": 1}}),
        ("/invocations", {"inputs": {name: [row[name] for row in _ROWS] for name in names}}),
        ("/v2/models/m/infer", {"inputs": tensors}),
        ("/v2/models/m/infer", {"id": "7", "inputs": tensors, **binary}),
    ]


class Breaker:
    """Breaks requests in reproducible ways."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self) -> tuple[str, bytes, dict[str, str]]:
        chance = self._random.random
        path, content = self._random.choice(_bodies())
        body = json.dumps(self._break(content)).encode()
        if chance() < 0.05:
            body = body[: self._random.randrange(len(body) + 1)]
        headers = {"Content-Type": self._random.choice(_TYPES)}
        if chance() < 0.05:
            headers["Inference-Header-Content-Length"] = self._random.choice(["x", "5", "-1", "100000", str(len(body))])
        if chance() < 0.03:
            headers |= {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
        return path, body, headers

    def _break(self, value: Any) -> Any:
        if self._random.random() < 0.12:
            return self._random.choice(_ODD)
        if isinstance(value, dict):
            kept = {name: item for name, item in value.items() if self._random.random() > 0.04}
            return {name: self._break(item) if self._random.random() < 0.3 else item for name, item in kept.items()}
        if isinstance(value, list):
            kept_items = [self._break(item) if self._random.random() < 0.15 else item for item in value]
            return kept_items + ([self._random.choice(_ODD)] if self._random.random() < 0.05 else [])
        return self._random.choice(_ODD)


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    folder = tmp_path_factory.mktemp("count")
    (folder / "count.py").write_text(_MODEL)
    kinds = {"age": "long", "income": "double", "name": "string", "since": "datetime", "member": "boolean"}
    signature = ModelSignature(
        inputs=Schema([ColSpec(kind, name) for name, kind in kinds.items()]),
        params=ParamSchema([ParamSpec("factor", "long", 1)]),
    )
    example = pd.DataFrame([{**_ROWS[0], "since": pd.Timestamp("2026-01-01")}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_UV_AUTO_DETECT", "false")
        mlflow.pyfunc.save_model(
            folder / "model", python_model=str(folder / "count.py"), signature=signature, input_example=example,
            pip_requirements=["mlflow"],
        )  # fmt: skip
    return folder / "model"


def _client(directory: Path) -> httpx.AsyncClient:
    from mlops_runtime.serving import sdk  # noqa: F401  # first of all that imports kserve
    from mlops_runtime.serving.app import build_app
    from mlops_runtime.serving.lifecycle import Lifecycle
    from mlops_runtime.serving.model import open_model
    from mlops_runtime.serving.settings import ServeSettings

    app = build_app(open_model(ServeSettings(model_name="m"), directory), Lifecycle(0))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


@pytest.mark.parametrize("seed", [1])
async def test_no_request_makes_the_server_fail(model_directory: Path, seed: int) -> None:
    breaker, counted = Breaker(seed), Counter[int]()
    async with _client(model_directory) as client:
        for _ in range(_REQUESTS):
            path, body, headers = breaker.request()
            answer = await client.post(path, content=body, headers=headers)
            counted[answer.status_code] += 1
            assert answer.status_code in (200, 400, 415), (answer.text, path, headers, body[:2000])
            assert answer.status_code == 200 or answer.json()["request_id"] == answer.headers["x-request-id"]
    assert counted[200] > 100
    assert counted[400] > 100


_HINTED = """
import mlflow, pydantic

class Row(pydantic.BaseModel):
    age: int
    tags: list[str] = []

class Hinted(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[Row], params=None) -> list[int]:
        return [row.age + len(row.tags) for row in model_input]

mlflow.models.set_model(Hinted())
"""


@pytest.fixture(scope="module")
def hinted_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import mlflow

    folder = tmp_path_factory.mktemp("hinted")
    (folder / "hinted.py").write_text(_HINTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_UV_AUTO_DETECT", "false")
        mlflow.pyfunc.save_model(
            folder / "model", python_model=str(folder / "hinted.py"), input_example=[{"age": 1}],
            pip_requirements=["mlflow"],
        )  # fmt: skip
    return folder / "model"


async def test_model_with_a_type_hint_gets_its_rows_as_they_are(hinted_directory: Path) -> None:
    rows = [{"age": 1}, {"age": 2, "tags": ["a", "b"]}]
    async with _client(hinted_directory) as client:
        for path, form in (("/invocations", "inputs"), ("/v1/models/m:predict", "instances")):
            answer = await client.post(path, json={form: rows})
            assert answer.json() == {"predictions": [1, 4]}
            wrong = await client.post(path, json={form: [{"age": "old"}]})
            assert wrong.status_code == 400
            assert "valid integer" in wrong.text
        split = await client.post("/invocations", json={"dataframe_split": {"columns": ["age"], "data": [[1]]}})
        assert (split.status_code, "send inputs or instances" in split.text) == (400, True)
