from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.declaration import ModelSelector
from airflow_mlops_provider.exceptions import ModelNotFoundError, TransientError
from airflow_mlops_provider.operators.model_task import override_selector, permanent_errors_fail

TAGGED = ModelSelector(experiment="/churn", run_tag={"stage": "prod"}, logged_model="gbm")
BOTH = ModelSelector(experiment="/churn", run_tag={"stage": "prod"}, registered_model="churn")
REGISTERED = ModelSelector(registered_model="churn", alias="prod")
RUN = "0" * 32


@pytest.mark.parametrize(
    ("selector", "params", "expected"),
    [
        (TAGGED, {}, TAGGED),
        (TAGGED, {"model_run_id": None, "model_version": ""}, TAGGED),
        (TAGGED, {"model_run_id": RUN}, ModelSelector(uri=f"runs:/{RUN}", logged_model="gbm")),
        (REGISTERED, {"model_version": 7}, ModelSelector(registered_model="churn", version="7")),
        (BOTH, {}, BOTH),
        (BOTH, {"model_version": "3"}, ModelSelector(registered_model="churn", version="3")),
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


def test_permanent_errors_stop_retries_and_transient_ones_do_not() -> None:
    with pytest.raises(AirflowFailException, match="ModelNotFoundError: no run"), permanent_errors_fail():
        raise ModelNotFoundError("no run")
    with pytest.raises(TransientError), permanent_errors_fail():
        raise TransientError("unreachable")
