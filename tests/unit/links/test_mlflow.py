"""What becomes a button, and under which key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from airflow_mlops_provider.declaration.selector import ResolvedModel
from airflow_mlops_provider.hooks.mlflow import MLflowHook
from airflow_mlops_provider.links.mlflow import MLflowModelLink, MLflowRunLink, push_model_links, web_address


class Instance:
    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def model(**changes: Any) -> ResolvedModel:
    values = {
        "uri": "models:/churn/7",
        "source_uri": "s3://bucket/",
        "run_id": "r",
        "experiment_id": "1",
        "model_id": "m-1",
        "name": "churn",
        "version": "7",
        "digest": "sha256:0",
        "git_commit": None,
        "run_url": "http://mlflow:5000/#/experiments/1/runs/r",
        "resolved_at": "2026-01-01T00:00:00+00:00",
    }
    return ResolvedModel(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "pushed"),
    [
        ({}, {"mlflow_run_url": "…/#/experiments/1/runs/r", "mlflow_model_url": "…/#/models/churn/versions/7"}),
        (
            {"version": None},
            {"mlflow_run_url": "…/#/experiments/1/runs/r", "mlflow_model_url": "…/#/experiments/1/models/m-1"},
        ),
        ({"version": None, "model_id": None}, {"mlflow_run_url": "…/#/experiments/1/runs/r"}),
        ({"run_url": None}, {"mlflow_model_url": "…/#/models/churn/versions/7"}),
        ({"run_url": "javascript:alert(1)"}, {"mlflow_model_url": "…/#/models/churn/versions/7"}),
    ],
)
def test_links_are_pushed_early(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], pushed: dict[str, str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow", "host": "http://mlflow:5000"}')
    instance = Instance()
    push_model_links({"ti": instance}, model(**changes), MLflowHook())  # type: ignore[typeddict-item]
    assert instance.pushed == {key: value.replace("…", "http://mlflow:5000") for key, value in pushed.items()}


@pytest.mark.parametrize(
    ("link", "key"), [(MLflowRunLink(), "mlflow_run_url"), (MLflowModelLink(), "mlflow_model_url")]
)
@pytest.mark.parametrize(
    ("stored", "shown"),
    [("http://mlflow/#/x", "http://mlflow/#/x"), (None, ""), ("javascript:alert(1)", ""), ({"x": 1}, "")],
)
def test_link_shows_what_was_pushed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, link: Any, key: str, stored: Any, shown: str
) -> None:
    asked: list[str] = []

    def get_one(**query: Any) -> Any:
        asked.append(query["key"])
        return stored

    monkeypatch.setattr(XCom, "get_one", get_one)
    instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    assert link.get_link(None, ti_key=instance) == shown
    assert (asked, link.xcom_key) == ([key], key)


@pytest.mark.parametrize("value", ["", "ftp://x/y", "//host/x", "http:///x", "data:text/html,x", "http://[", 5, None])
def test_only_web_addresses_become_links(value: object) -> None:
    assert web_address(value) == ""
