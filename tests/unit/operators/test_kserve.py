"""What the online operators refuse before anything is asked, and what a task knows after a deferral or a retry."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
from airflow_mlops_provider.manifests.rollout import Target
from airflow_mlops_provider.operators.kserve import (
    KServeDeleteOperator,
    KServeDeployOperator,
    KServePredictOperator,
)
from airflow_mlops_provider.sensors.kserve import KServeReadySensor


def operator(resolved: dict[str, Any], **changes: Any) -> KServeDeployOperator:
    arguments = {
        "task_id": "deploy",
        "model": resolved,
        "name": "churn",
        "namespace": "ml",
        "kubernetes_conn_id": "k8s_prod",
        "mlflow_conn_id": "mlflow_prod",
    }
    return KServeDeployOperator(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on_failure": "explode"}, "on_failure is one of keep, rollback, delete_if_created"),
        ({"access": "ssh"}, "access is 'api-server' or 'url'"),
        ({"smoke_test": {"from": "thin air"}}, "smoke_test: give one of"),
        ({"protocol": "v3"}, "protocol is"),
        ({"min_replicas": 0}, "leaves no pod"),
        ({"overrides": {"predictr": {}}}, "overrides.predictr"),
        ({"manifest": {"kind": "Pod"}}, "is none of"),
        ({"manifest": {"kind": "Pod"}, "overrides": {"predictor": {"timeout": 1}}}, "remove one of the two"),
    ],
)
def test_impossible_arguments_stop_the_task_before_the_cluster_is_asked(
    resolved: dict[str, Any],
    context: dict[str, Any],
    api_requests: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        operator(resolved, **changes).execute(context)  # type: ignore[arg-type]
    assert api_requests == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"namespace": "kube-system"}, "namespace"),
        ({"image": "evil.example/x:1"}, "images"),
        ({"kubernetes_conn_id": "k8s_other"}, "connections"),
        ({"mlflow_conn_id": "mlflow_other"}, "connections"),
        ({"min_replicas": 3}, "max_replicas"),
    ],
)
def test_platform_is_asked_before_the_cluster(
    resolved: dict[str, Any],
    context: dict[str, Any],
    api_requests: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    rule: str | None,
) -> None:
    prod = {
        "namespace": "ml",
        "model": {"latest_run": True},
        "connections": {"mlflow": "mlflow_prod", "kubernetes": "k8s_prod"},
        "allow": {"max_replicas": 2},
    }
    file = tmp_path / "environments.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "mlops/v1", "environments": {"prod": prod}}))
    monkeypatch.setenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", str(file))
    deploy = operator(resolved, environment="prod", **changes)
    with pytest.raises(AirflowFailException) as caught:
        deploy.execute(context)  # type: ignore[arg-type]
    if rule is None:
        assert str(caught.value).startswith("AccessDeniedError"), "allowed; then the API server of the test refuses"
        assert api_requests
    else:
        assert f"[{rule}]" in str(caught.value)
        assert api_requests == []


def plan(spec_hash: str = "new0", **changes: Any) -> DeployPlan:
    target = Target(name="churn", namespace="ml", uid="u1", spec_hash=spec_hash, generation=1)
    reference = ServiceReference(name="churn", namespace="ml").to_dict()
    return DeployPlan(
        **{"reference": reference, "target": asdict(target), "created": False, "changed": False, **changes}
    )


class Store(dict[str, Any]):
    """Airflow's task state store, which keeps JSON across the tries of a task instance."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


def test_retry_knows_what_was_there_before_the_first_try(resolved: dict[str, Any]) -> None:
    context: Any = {"task_state_store": Store(), "ti": SimpleNamespace(max_tries=2)}
    first, retry = operator(resolved), operator(resolved)
    first._remember(plan(created=True, changed=True, former={"was": "here"}), context)
    recalled = retry._recall(plan(), context)
    assert (recalled.created, recalled.changed, recalled.former) == (True, True, {"was": "here"})


@pytest.mark.parametrize(
    ("found", "max_tries"),
    [
        (plan(changed=True, former={"newer": "one"}), 2),
        (plan("other"), 2),
        (plan(), 5),
    ],
)
def test_what_was_there_before_counts_for_the_same_spec_and_run_only(
    resolved: dict[str, Any], found: DeployPlan, max_tries: int
) -> None:
    store = Store()
    operator(resolved)._remember(
        plan(created=True, changed=True),
        {"task_state_store": store, "ti": SimpleNamespace(max_tries=2)},  # type: ignore[typeddict-item]
    )
    context: Any = {"task_state_store": store, "ti": SimpleNamespace(max_tries=max_tries)}
    assert operator(resolved)._recall(found, context) == found


def test_on_kill_before_anything_was_done_does_nothing(resolved: dict[str, Any], api_requests: list[str]) -> None:
    operator(resolved, on_failure="delete_if_created").on_kill()
    assert api_requests == []


@pytest.mark.parametrize(
    "task",
    [
        KServeDeployOperator(task_id="t", model="models:/m-1", name="n", namespace="s"),
        KServePredictOperator(task_id="t", name="n", namespace="s"),
        KServeDeleteOperator(task_id="t", name="n", namespace="s"),
        KServeReadySensor(task_id="t", name="n", namespace="s"),
    ],
)
def test_template_fields_exist_and_say_where_to(task: Any) -> None:
    assert {"name", "namespace", "kubernetes_conn_id"} <= set(task.template_fields)
    assert all(hasattr(task, field) for field in task.template_fields)


def test_no_kubernetes_client_is_imported_while_a_dag_is_parsed() -> None:
    code = (
        "import sys, airflow_mlops_provider.operators.kserve, airflow_mlops_provider.sensors.kserve\n"
        "print([name for name in ('kubernetes', 'kubernetes_asyncio', 'mlflow', 'httpx') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[-2] in ("[]", "['httpx']")
