"""The same deployment by both ways of waiting; its pods are held back until the test lets them go."""

from __future__ import annotations

import json
import os
from datetime import datetime

from airflow.sdk import DAG

from airflow_mlops_provider.operators.kserve import KServeDeployOperator

GIVEN = json.loads(os.environ.get("MLOPS_TEST_OUTAGE") or '{"namespace": "default", "manifest": {}, "model": {}}')

with DAG(
    "outage", schedule=None, start_date=datetime(2025, 1, 1), params={"name": "held"}, default_args={"retries": 0}
):
    for mode, deferrable in (("sync", False), ("deferrable", True)):
        KServeDeployOperator(
            task_id=mode,
            name="{{ params.name }}-" + mode,
            namespace=GIVEN["namespace"],
            model=GIVEN["model"],
            manifest=GIVEN["manifest"],
            smoke_test={"request": {}, "path": "/cgi-bin/predict"},
            kubernetes_conn_id="k8s_outage",
            mlflow_conn_id="mlflow_none",
            timeout_seconds=300,
            deferrable=deferrable,
        )
