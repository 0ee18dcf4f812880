from __future__ import annotations

import pytest

from airflow_mlops_provider.manifests.contract import CONTRACT_NAMES, build_contract, check_extra_names

MODEL = {"uri": "models:/m-1", "name": "churn", "version": None, "run_id": "r1", "digest": "sha256:ab"}


def test_contract_holds_every_name_and_never_the_training_run_variable() -> None:
    contract = build_contract(
        MODEL,
        tracking_uri="http://mlflow",
        environment="prod",
        data_interval=("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"),
        partition=1,
        partitions=4,
        input_uri="s3://in/",
        output_uri="s3://out/",
    )
    assert set(contract) == CONTRACT_NAMES
    assert contract["MODEL_URI"] == "models:/m-1"
    assert contract["MODEL_VERSION"] == ""
    assert (contract["MLOPS_PARTITION"], contract["MLOPS_PARTITIONS"]) == ("1", "4")
    assert contract["DATA_INTERVAL_END"] == "2026-01-02T00:00:00+00:00"


def test_input_and_output_are_left_out_where_not_declared() -> None:
    contract = build_contract(MODEL, tracking_uri="x", environment="e", data_interval=("a", "b"))
    assert CONTRACT_NAMES - set(contract) == {"INPUT_URI", "OUTPUT_URI"}


def test_parameters_of_the_run_arrive_under_a_prefix_of_their_own() -> None:
    parameters = {"threshold": 0.5, "dry": True, "segment": "a", "rows": 3}
    contract = build_contract(MODEL, tracking_uri="x", environment="e", data_interval=("a", "b"), parameters=parameters)
    assert {name: value for name, value in contract.items() if name.startswith("PARAM_")} == {
        "PARAM_THRESHOLD": "0.5",
        "PARAM_DRY": "true",
        "PARAM_SEGMENT": "a",
        "PARAM_ROWS": "3",
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["MODEL_URI"], "set by the operator"),
        (["PARAM_X"], "PARAM_X: set by the operator"),
        (["MLFLOW_RUN_ID"], "reopen"),
    ],
)
def test_variables_that_would_shadow_the_contract_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_extra_names(names)
