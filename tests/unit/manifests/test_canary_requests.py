"""What two versions are asked, and under which name."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.manifests.canary_requests import build_probes, example_probe, path_for
from airflow_mlops_provider.manifests.inference_service_request import parse_smoke_test


def probes(smoke_test: dict[str, Any] | None = None, **given: Any) -> list[dict[str, Any]]:
    smoke = parse_smoke_test(smoke_test, "v2", "churn")
    return [item.to_dict() for item in build_probes(name="churn", protocol="v2", smoke_test=smoke, **given)]


def test_requests_go_to_the_protocols_path() -> None:
    assert probes(requests=[{"inputs": []}, {"inputs": [1]}]) == [
        {"path": "/v2/models/churn/infer", "body": {"inputs": []}},
        {"path": "/v2/models/churn/infer", "body": {"inputs": [1]}},
    ]


def test_each_row_is_a_request_of_its_own() -> None:
    assert probes(rows=[{"age": 40}, {"age": 50}]) == [
        {"path": "/invocations", "body": {"dataframe_records": [{"age": 40}]}},
        {"path": "/invocations", "body": {"dataframe_records": [{"age": 50}]}},
    ]


def test_request_of_the_smoke_test_is_the_default() -> None:
    assert probes({"request": {"a": 1}, "path": "/predict"}) == [{"path": "/predict", "body": {"a": 1}}]
    assert probes({"request": {"a": 1}}, rows=[{"b": 2}])[0]["path"] == "/invocations", "but what is given wins"


def test_input_example_is_asked_for_where_nothing_else_is_given() -> None:
    assert probes({"from": "input_example"}) == []
    assert probes() == []
    assert example_probe({"x": 1}).to_dict() == {"path": "/invocations", "body": {"x": 1}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"requests": [{}], "rows": [{}]}, "give one of the two"),
        ({"requests": []}, "probe_requests holds no request"),
        ({"rows": []}, "probe_rows holds no request"),
        ({"rows": [[1, 2]]}, "a row is a record"),
        ({"requests": ["x" * 1_000_001]}, "1000000 are allowed; give fewer rows"),
    ],
)
def test_probes_that_cannot_be_right_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probes(**given)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/models/churn/infer", "/v2/models/churn-candidate/infer"),
        ("/v1/models/churn:predict", "/v1/models/churn-candidate:predict"),
        ("/v2/models/churn", "/v2/models/churn-candidate"),
        ("/v2/models/churn-eu/infer", "/v2/models/churn-eu/infer"),
        ("/invocations", "/invocations"),
    ],
)
def test_path_names_the_service_that_is_asked(path: str, expected: str) -> None:
    assert path_for(path, "churn", "churn-candidate") == expected
