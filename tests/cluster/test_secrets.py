"""A token of the MLflow connection is left nowhere: looked for after the other tests have used it in every way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Road, Trainer

pytestmark = pytest.mark.cluster

CANARY = b"canary-3f9d1c7e5b"


def test_token_is_in_no_pod_no_log_no_row_and_no_file(road: Road, trainer: Trainer) -> None:
    trainer.train("/tests/secrets", seed=1, tags={"stage": "prod"})
    road.push("secrets", batch={"command": ["sh", "-c", "env"], "retries": 0}, environments={"prod": {}})
    road.airflow.wait_for_dag("prod.secrets.batch")
    run_id = road.airflow.trigger("prod.secrets.batch")
    assert road.airflow.wait_for_run("prod.secrets.batch", run_id)["state"] == "success"
    assert "MODEL_URI=models:/m-" in "\n".join(road.airflow.logs("prod.secrets.batch", run_id, "score"))

    files = [path for path in road.airflow.directory.rglob("*") if path.is_file()]
    assert any(path.name == "airflow.db" for path in files)
    assert any(path.suffix == ".log" for path in files)
    assert [str(path) for path in files if CANARY in path.read_bytes()] == []
