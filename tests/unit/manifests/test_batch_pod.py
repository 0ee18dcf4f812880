from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlops_provider.manifests import batch_pod

MODEL = {"uri": "models:/m-1", "name": "модель", "version": None}


def test_values_are_not_expanded_by_kubernetes() -> None:
    variables = batch_pod.build_env_vars({"A": "$(HOME)/$(X)", "B": "$5"})
    assert variables == [{"name": "A", "value": "$$(HOME)/$$(X)"}, {"name": "B", "value": "$5"}]


def test_credentials_are_references_only() -> None:
    variables = batch_pod.build_credential_env_vars("mlflow-token")
    assert [item["name"] for item in variables] == [
        "MLFLOW_TRACKING_TOKEN",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    ]
    assert all("value" not in item and item["valueFrom"]["secretKeyRef"]["optional"] for item in variables)


def test_named_credential_keys_must_exist() -> None:
    (variable,) = batch_pod.build_credential_env_vars("s", {"MLFLOW_TRACKING_TOKEN": "token"})
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "token", "optional": False}


def test_annotation_round_trip() -> None:
    annotations = batch_pod.build_model_annotations(MODEL)
    assert annotations["airflow-mlops/model-uri"] == "models:/m-1"
    assert batch_pod.read_model_annotation(annotations) == MODEL
    assert batch_pod.read_model_annotation(None) is None


@pytest.mark.parametrize(
    ("arguments", "resources"),
    [
        ((None, None), {}),
        (("500m", "1Gi"), {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}),
        ((None, None, 2), {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}}),
    ],
)
def test_requests_equal_limits(arguments: tuple[Any, ...], resources: dict[str, Any]) -> None:
    assert batch_pod.build_resources(*arguments) == resources


@pytest.mark.parametrize(
    ("message", "value", "problem"),
    [
        (None, None, None),
        ("  \n", None, None),
        ('{"rows": 3}', {"rows": 3}, None),
        ("not json", None, "is not JSON"),
        (json.dumps("x" * 5000)[: batch_pod.RESULT_MAX_BYTES], None, "longer than 4096 bytes"),
    ],
)
def test_result_is_a_value_or_a_named_problem(message: str | None, value: object, problem: str | None) -> None:
    found, said = batch_pod.parse_result(message)
    assert found == value
    assert (said is None) if problem is None else (said is not None and problem in said)
