"""What is asked of an endpoint over HTTP, and whether its answer is one.

Decides paths per protocol, what a smoke test may say, and how the shape of an answer is read. Sending is the hooks'.
Pure, no I/O. v2: https://github.com/kserve/open-inference-protocol (rev. 2); ``/invocations``:
https://mlflow.org/docs/3.7.0/ml/deployment/deploy-model-locally/#inference-server-specification
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: The file that MLflow saves beside a model logged with an input example; its path takes it unchanged.
EXAMPLE_FILE: Final = "serving_input_example.json"
EXAMPLE_PATH: Final = "/invocations"
_SMOKE_KEYS: Final = {"from", "request", "path", "max_latency_seconds", "expect_shape"}
_EXCERPT_CHARS: Final = 300


@dataclass(frozen=True, kw_only=True)
class SmokeTest:
    """One prediction that a new version has to answer.

    :param request: body in JSON types; None: the model's input example.
    :param max_latency_seconds: a slower answer is a failure.
    :param expect_shape: of the predictions; None in it stands for any length, ``(None, 2)``.
    """

    path: str
    request: Any = None
    max_latency_seconds: float | None = None
    expect_shape: tuple[int | None, ...] | None = None


def readiness_path(protocol: str, name: str) -> str:
    """Return the path that says whether the model is loaded."""
    return f"/v2/models/{name}/ready" if protocol == "v2" else f"/v1/models/{name}"


def prediction_path(protocol: str, name: str) -> str:
    return f"/v2/models/{name}/infer" if protocol == "v2" else f"/v1/models/{name}:predict"


def says_ready(status: int, body: str) -> bool:
    """Whether the answer at :func:`readiness_path` is a yes; v1 servers may say no with 200."""
    if status != 200:
        return False
    try:
        answer = json.loads(body)
    except ValueError:
        return True
    return not (isinstance(answer, Mapping) and str(answer.get("ready", True)).lower() == "false")


def parse_smoke_test(given: Mapping[str, Any] | None, protocol: str, name: str) -> SmokeTest | None:
    """Read the operator's argument.

    :param given: ``{"from": "input_example"}`` or ``{"request": {…}, "path": …}``; both with ``max_latency_seconds``
        and ``expect_shape``.
    :raises ValueError: it has another key, or not exactly one source of the request.
    """
    if given is None:
        return None
    if unknown := sorted(set(given) - _SMOKE_KEYS):
        raise ValueError(f"smoke_test.{unknown[0]}: unknown; use {', '.join(sorted(_SMOKE_KEYS))}")
    source, request = given.get("from"), given.get("request")
    if (source is None) == (request is None) or source not in (None, "input_example"):
        raise ValueError('smoke_test: give one of {"from": "input_example"} and {"request": {…}}')
    own = prediction_path(protocol, name) if request is not None else EXAMPLE_PATH
    latency, shape = given.get("max_latency_seconds"), given.get("expect_shape")
    return SmokeTest(
        path=str(given.get("path") or own),
        request=request,
        max_latency_seconds=None if latency is None else float(latency),
        expect_shape=None if shape is None else tuple(shape),
    )


def problem_of(
    status: int,
    body: str,
    latency_seconds: float,
    *,
    max_latency_seconds: float | None = None,
    expect_shape: Sequence[int | None] | None = None,
) -> str | None:
    """Return what is wrong with an answer to a prediction, None where nothing is."""
    if status == 0:
        return f"no answer ({body[:_EXCERPT_CHARS]})"
    if status != 200:
        return f"it answered {status}: {' '.join(body.split())[:_EXCERPT_CHARS]}"
    try:
        answer = json.loads(body)
    except ValueError:
        return f"its answer is not JSON: {body[:_EXCERPT_CHARS]!r}"
    if max_latency_seconds is not None and latency_seconds > max_latency_seconds:
        return f"it took {latency_seconds:.3f} s, {max_latency_seconds:g} s are allowed"
    if expect_shape is not None and not _matches(shape_of(answer), expect_shape):
        wanted = ["any" if item is None else item for item in expect_shape]
        return f"its answer has the shape {list(shape_of(answer))}, {wanted} is expected"
    return None


def shape_of(answer: Any) -> tuple[int, ...]:
    """Return the shape of the predictions in an answer of any of the protocols; v2 states the first output's."""
    if isinstance(answer, Mapping):
        outputs = answer.get("outputs")
        if isinstance(outputs, list) and outputs and isinstance(outputs[0], Mapping) and "shape" in outputs[0]:
            return tuple(outputs[0]["shape"])
        answer = answer.get("predictions")
    shape = []
    while isinstance(answer, list):
        shape.append(len(answer))
        answer = answer[0] if answer else None
    return tuple(shape)


def _matches(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, -1, found) for found, wanted in zip(shape, expected, strict=True)
    )
