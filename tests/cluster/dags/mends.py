"""The same pod by the plain operator and by ours, for each failure of the former that the latter mends."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG

from airflow_mlops_provider.manifests.batch_pod import (
    hardened_container_security_context,
    hardened_pod_security_context,
)
from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator

POD: dict[str, Any] = {
    "namespace": os.environ.get("MLOPS_TEST_NAMESPACE", "default"),
    "image": os.environ.get("MLOPS_TEST_IMAGE", "none"),
    "image_pull_policy": "IfNotPresent",
    "kubernetes_conn_id": "k8s_prod",
    "cmds": ["sh", "-c"],
    # The namespace admits restricted pods only; ours are so by themselves.
    "security_context": hardened_pod_security_context(),
    "container_security_context": hardened_container_security_context(),
    "termination_grace_period": 1,
}
OURS: dict[str, Any] = {
    "model": {"experiment": "/tests/mends", "run_tag": {"stage": "prod"}},
    "mlflow_conn_id": "mlflow_prod",
}
RESULT = "echo '{\"rows\": 3}' > /airflow/xcom/return.json"
SIDECAR = {"xcom_sidecar_container_security_context": hardened_container_security_context(65532)}


#: Keeps a deleted pod readable until the test lets it go: whether the plain operator still finds it would be chance.
HELD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"finalizers": ["example.com/held-by-test"]}}


class DieOnce(KubernetesPodOperatorCallback):
    """Kill the task process of the first try the moment its pod exists."""

    @staticmethod
    def on_pod_creation(*, context: Any, **_: Any) -> None:
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def make(name: str, operator: Any, **arguments: Any) -> None:
    labels = {"mend": name}
    with DAG(f"mends.{name}", schedule=None, start_date=datetime(2025, 1, 1), default_args={"retries": 0}) as dag:
        operator(task_id="pod", name=name, **{**POD, "labels": labels, **arguments})
    globals()[name] = dag


for kind, operator, own in (("plain", KubernetesPodOperator, {}), ("ours", MLflowModelBatchOperator, OURS)):
    for mode, deferrable in (("sync", False), ("deferrable", True)):
        common = {**own, "deferrable": deferrable}
        make(f"terminated-{kind}-{mode}", operator, arguments=["sleep 120"], pod_template_dict=HELD, **common)
        lossy = {"kubernetes_conn_id": "k8s_lossy", "arguments": ["sleep 5"]}
        make(f"lost-reply-{kind}-{mode}", operator, **common, **lossy)
    dying = {**own, "deferrable": True, "callbacks": [DieOnce], "arguments": [RESULT]}
    # Long enough for the container to be over when the second try looks: the failure is about such a pod. (A pod that
    # ends within the second of the deferral meets another one, Airflow's own: the executor's word on the first process
    # arrives after the task was queued again, and the scheduler fails the task.)
    retry = {"retries": 1, "retry_delay": timedelta(seconds=20)}
    sidecar = {"do_xcom_push": True, **({"xcom_sidecar": True} if own else {}), **SIDECAR}
    make(f"early-end-{kind}-sidecar", operator, **dying, **retry, **sidecar)
dying = {**OURS, "callbacks": [DieOnce], "arguments": [RESULT]}
for mode, deferrable in (("sync", False), ("deferrable", True)):
    make(f"early-end-ours-{mode}", MLflowModelBatchOperator, **dying, **retry, deferrable=deferrable)
