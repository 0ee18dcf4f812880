from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from airflow.sdk import Asset

from airflow_mlops_provider.operators.record import RecordDeploymentOperator

SEEN = {"name": "churn", "namespace": "ml", "uid": "u1", "url": None, "spec_hash": "one", "sources": ["pod-a"]}


def test_record_travels_with_the_event_and_as_xcom(resolved: dict[str, Any]) -> None:
    asset = Asset("prod.churn.endpoint")
    events = {asset: SimpleNamespace(extra={})}
    task = RecordDeploymentOperator(
        task_id="record",
        environment="prod",
        declaration="models/churn.yaml",
        model=resolved,
        service=SEEN,
        gitops_commit="c0ffee",
        outlets=[asset],
    )
    record = task.execute({"run_id": "manual__1", "outlet_events": events})  # type: ignore[typeddict-item]
    assert record == {
        "environment": "prod",
        "declaration": "models/churn.yaml",
        "dag_run": "manual__1",
        "model": resolved,
        "service": {"name": "churn", "namespace": "ml", "uid": "u1", "url": None, "spec_hash": "one"},
        "gitops_commit": "c0ffee",
    }
    assert events[asset].extra == record
    assert json.loads(json.dumps(record)) == record
