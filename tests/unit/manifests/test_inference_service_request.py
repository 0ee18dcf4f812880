"""What is asked over HTTP and what counts as an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlops_provider.manifests.inference_service_request import (
    SmokeTest,
    parse_smoke_test,
    prediction_path,
    problem_of,
    readiness_path,
    says_ready,
    shape_of,
)


def test_paths_of_the_protocols() -> None:
    assert readiness_path("v2", "churn") == "/v2/models/churn/ready"
    assert readiness_path("v1", "churn") == "/v1/models/churn"
    assert prediction_path("v2", "churn") == "/v2/models/churn/infer"
    assert prediction_path("v1", "churn") == "/v1/models/churn:predict"


@pytest.mark.parametrize(
    ("status", "body", "ready"),
    [
        (200, "", True),
        (200, '{"name": "churn", "ready": true}', True),
        (200, '{"ready": "False"}', False),
        (200, '{"ready": false}', False),
        (503, '{"ready": true}', False),
        (0, "connection refused", False),
    ],
)
def test_readiness(status: int, body: str, ready: bool) -> None:
    assert says_ready(status, body) is ready


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ({"from": "input_example"}, SmokeTest(path="/invocations")),
        ({"request": {"inputs": []}}, SmokeTest(path="/v2/models/churn/infer", request={"inputs": []})),
        (
            {"request": {}, "path": "/p", "max_latency_seconds": 1, "expect_shape": [None, 2]},
            SmokeTest(path="/p", request={}, max_latency_seconds=1.0, expect_shape=(None, 2)),
        ),
    ],
)
def test_smoke_test(given: Any, expected: SmokeTest | None) -> None:
    assert parse_smoke_test(given, "v2", "churn") == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of"),
        ({"from": "input_example", "request": {}}, "give one of"),
        ({"from": "thin air"}, "give one of"),
        ({"request": {}, "latency": 1}, "smoke_test.latency: unknown"),
    ],
)
def test_impossible_smoke_test(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_smoke_test(given, "v2", "churn")


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        ({"predictions": [1, 2, 3]}, (3,)),
        ({"predictions": [[1, 2], [3, 4], [5, 6]]}, (3, 2)),
        ({"outputs": [{"name": "p", "shape": [3, 1], "data": [1, 2, 3]}]}, (3, 1)),
        ([1, 2], (2,)),
        ({"predictions": []}, (0,)),
        ({"other": 1}, ()),
    ],
)
def test_shape_of_predictions(answer: Any, shape: tuple[int, ...]) -> None:
    assert shape_of(answer) == shape


@pytest.mark.parametrize(
    ("status", "body", "latency", "problem"),
    [
        (200, {"predictions": [1, 2]}, 0.1, None),
        (0, "refused", 0.1, "no answer"),
        (500, "boom", 0.1, "it answered 500: boom"),
        (200, "<html>", 0.1, "not JSON"),
        (200, {"predictions": [1, 2]}, 0.9, "it took 0.900 s, 0.5 s are allowed"),
        (200, {"predictions": [1]}, 0.1, r"shape \[1\], \[2\] is expected"),
    ],
)
def test_answer(status: int, body: Any, latency: float, problem: str | None) -> None:
    import re

    text = body if isinstance(body, str) else json.dumps(body)
    found = problem_of(status, text, latency, max_latency_seconds=0.5, expect_shape=[2])
    assert found is None if problem is None else re.search(problem, found or "")


def test_any_length_may_stand_for_the_batch() -> None:
    body = json.dumps({"predictions": [[1, 2]] * 7})
    assert problem_of(200, body, 0.0, expect_shape=[None, 2]) is None
    assert problem_of(200, body, 0.0, expect_shape=[-1, 3]) is not None
