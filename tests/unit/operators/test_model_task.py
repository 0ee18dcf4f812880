from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.declaration import ModelSelector
from airflow_mlops_provider.exceptions import ModelNotFoundError, TransientError
from airflow_mlops_provider.operators.model_task import (
    data_interval,
    interval_context,
    override_selector,
    permanent_errors_fail,
)

TAGGED = ModelSelector(experiment="/churn", run_tag={"stage": "prod"}, logged_model="gbm")
REGISTERED = ModelSelector(registered_model="churn", alias="prod")
RUN = "0" * 32
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("selector", "params", "expected"),
    [
        (TAGGED, {}, TAGGED),
        (TAGGED, {"model_run_id": None, "model_version": ""}, TAGGED),
        (TAGGED, {"model_run_id": RUN}, ModelSelector(uri=f"runs:/{RUN}", logged_model="gbm")),
        (REGISTERED, {"model_version": 7}, ModelSelector(registered_model="churn", version="7")),
        (REGISTERED, {"model_alias": " old "}, ModelSelector(registered_model="churn", alias="old")),
    ],
)
def test_person_who_triggers_may_choose_another_model(
    selector: ModelSelector, params: dict[str, Any], expected: ModelSelector
) -> None:
    assert override_selector(selector, params) == expected


@pytest.mark.parametrize(
    ("selector", "params", "message"),
    [
        (REGISTERED, {"model_version": "7", "model_alias": "old"}, "choose one of"),
        (TAGGED, {"model_version": "7"}, "needs the registered_model"),
        (TAGGED, {"model_run_id": "../../etc"}, "is not a model URI"),
    ],
)
def test_impossible_choices_are_named(selector: ModelSelector, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override_selector(selector, params)


def context(**values: Any) -> Any:
    return {"dag_run": SimpleNamespace(run_after=NOON), "params": {}, **values}


def test_run_without_interval_covers_the_moment_it_was_asked_for() -> None:
    assert data_interval(context(), use_run_params=True) == (NOON, NOON)


def test_interval_from_parameters_wins_and_naive_means_utc() -> None:
    params = {"data_interval_start": "2025-12-01T00:00:00", "data_interval_end": "2025-12-02T00:00:00+00:00"}
    start, end = data_interval(context(params=params), use_run_params=True)
    assert (start, end) == (datetime(2025, 12, 1, tzinfo=UTC), datetime(2025, 12, 2, tzinfo=UTC))
    assert data_interval(context(params=params), use_run_params=False) == (NOON, NOON)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"data_interval_start": "yesterday"}, "is not ISO 8601"),
        ({"data_interval_start": "2026-02-01T00:00:00", "data_interval_end": "2026-01-01T00:00:00"}, "is before"),
    ],
)
def test_impossible_intervals_are_named(params: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_interval(context(params=params), use_run_params=True)


def test_run_without_logical_date_still_has_ds() -> None:
    assert interval_context(context(), use_run_params=True)["ds"] == "2026-01-02"


def test_ds_follows_the_interval_that_was_asked_for() -> None:
    own = context(data_interval_start=NOON, data_interval_end=NOON, ds="2026-01-02")
    assert interval_context(own, use_run_params=True)["ds"] == "2026-01-02"
    asked = {**own, "params": {"data_interval_start": "2025-12-01T00:00:00", "data_interval_end": None}}
    rendered = interval_context(asked, use_run_params=True)
    assert (rendered["ds"], rendered["ds_nodash"]) == ("2025-12-01", "20251201")


def test_permanent_errors_stop_retries_and_transient_ones_do_not() -> None:
    with pytest.raises(AirflowFailException, match="ModelNotFoundError: no run"), permanent_errors_fail():
        raise ModelNotFoundError("no run")
    with pytest.raises(TransientError), permanent_errors_fail():
        raise TransientError("unreachable")
