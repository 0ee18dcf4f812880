"""The operator without declarations: a DAG of one's own, with a step before and a model chosen by alias or tag."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import DAG, task

from airflow_mlops_provider.declaration import ModelSelector
from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator


@task
def count_rows(result: dict[str, object]) -> object:
    """Read what the pod handed back."""
    return result["rows"]


with DAG("plain_operator", schedule=None, start_date=datetime(2025, 1, 1), tags=["mlops", "example"]):
    score = MLflowModelBatchOperator(
        task_id="score",
        model=ModelSelector(experiment="/examples/tumours", run_tag={"stage": "prod"}),
        mlflow_conn_id="mlflow_prod",
        tracking_uri=os.environ.get("EXAMPLE_TRACKING_URI"),
        kubernetes_conn_id="k8s_prod",
        namespace=os.environ.get("EXAMPLE_NAMESPACE", "ml-prod"),
        image=os.environ.get("EXAMPLE_IMAGE", "registry.example/model-runtime:0.1.0"),
        image_pull_policy="IfNotPresent",
        # Your own image and program: the contract tells it which model. This one only says what it was told.
        cmds=["sh", "-c"],
        arguments=['echo "applying $MODEL_URI"; echo "{\\"rows\\": 3}" > /airflow/xcom/return.json'],
        container_resources={"requests": {"cpu": "100m"}, "limits": {"memory": "128Mi"}},
        deferrable=True,
    )
    count_rows(score.output)
