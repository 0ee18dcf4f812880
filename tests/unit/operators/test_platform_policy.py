from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.operators.local import MLflowModelLocalOperator
from airflow_mlops_provider.operators.mlflow import MLflowModelBatchOperator
from airflow_mlops_provider.operators.resolve import MLflowResolveModelOperator

FILE_SETTING = "AIRFLOW__MLOPS__ENVIRONMENTS_FILE"
ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev:
    runner: local
    model: {latest_run: true}
    connections: {mlflow: mlflow_prod}
  prod:
    namespace: ml-prod
    image: registry.example/runtime:1
    model: {run_tag: {stage: prod}}
    connections: {mlflow: mlflow_prod, kubernetes: k8s_prod}
    allow: {max_cpu: "2", experiments: ["/churn/*"], registered_models: [churn]}
"""
DECLARATION = """
apiVersion: mlops/v1
model: churn
owner: me
experiment: /churn/gbm
batch: {input: "s3://in/", output: "s3://out/", partitions: 2}
environments: {prod: {}}
"""
POD = {
    "name": "score",
    "namespace": "ml-prod",
    "image": "registry.example/runtime:1",
    "mlflow_conn_id": "mlflow_prod",
    "kubernetes_conn_id": "k8s_prod",
    "environment": "prod",
    "container_resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
}


@pytest.fixture(autouse=True)
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "environments.yaml"
    file.write_text(ENVIRONMENTS)
    monkeypatch.setenv(FILE_SETTING, str(file))
    return file


def run_pod(context: Any, model: Any, **changes: Any) -> None:
    from kubernetes.client import V1ResourceRequirements

    arguments = {**POD, **changes}
    arguments["container_resources"] = V1ResourceRequirements(**arguments["container_resources"])
    operator = MLflowModelBatchOperator(task_id="score", model=model, deferrable=False, **arguments)
    operator.execute.__wrapped__(operator, context)


def run_process(context: Any, model: Any, **changes: Any) -> Any:
    arguments = {"mlflow_conn_id": "mlflow_prod", "environment": "dev", **changes}
    operator = MLflowModelLocalOperator(task_id="score", model=model, **arguments)
    return operator.execute.__wrapped__(operator, context)


def test_allowed_pod_gets_as_far_as_the_api_server(api_requests: Any, context: Any, resolved: Any) -> None:
    with pytest.raises(Exception, match=r"403|Forbidden"):
        run_pod(context, resolved)
    assert api_requests


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"namespace": "kube-system"}, r"task score: metadata.namespace: in 'prod': .*\[namespace\]"),
        ({"image": "docker.io/x:1"}, r"\[images\]"),
        ({"container_resources": {"limits": {"cpu": "3"}}}, r"\[max_cpu\]"),
        ({"service_account_name": "admin"}, r"\[service_account\]"),
        ({"node_selector": {"pool": "other"}}, r"\[node_selector\]"),
        ({"mlflow_credentials": {"secret": "other"}}, r"\[secrets\]"),
        ({"hardened": False}, r"\[restricted\]"),
        ({"hostnetwork": True}, r"\[host_namespaces\]"),
        ({"mlflow_conn_id": "mlflow_admin"}, r"\[connections\]"),
        ({"kubernetes_conn_id": "k8s_admin"}, r"\[connections\]"),
        ({"in_cluster": True}, r"\[connections\]"),
        ({"input_uri": "file:///etc/shadow"}, r"\[uri_schemes\]"),
        ({"environment": "dev"}, r"\[runner\]"),
        ({"environment": "prd", "use_run_params": True}, r"'prd' is unknown; did you mean 'prod'\?.*\[environment\]"),
        (
            {"pod_template_dict": {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []}}},
            r"\[volumes\]",
        ),
    ],
)
def test_forbidden_pod_is_never_asked_for(
    change: dict[str, Any], message: str, api_requests: Any, context: Any, resolved: Any
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        run_pod(context, resolved, **change)
    assert api_requests == []


@pytest.mark.parametrize("file", [None, "keeps its own name"])
def test_task_by_hand_outside_the_platforms_environments_is_left_alone(
    file: str | None, api_requests: Any, context: Any, resolved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change: dict[str, Any] = {"environment": "mine"} if file else {"use_run_params": True}
    if file is None:
        monkeypatch.delenv(FILE_SETTING)
    with pytest.raises(Exception, match=r"403|Forbidden"):
        run_pod(context, resolved, image="docker.io/x:1", **change)
    assert api_requests


def test_unreadable_environments_file_allows_nothing(
    environments: Path, api_requests: Any, context: Any, resolved: Any
) -> None:
    environments.unlink()
    with pytest.raises(AirflowFailException, match="DeclarationError"):
        run_pod(context, resolved)
    assert api_requests == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": ["touch", "MARK"]}, r"task score: command: in 'dev': .*\[commands\]"),
        ({"env_vars": {"PYTHONPATH": "/x"}}, r"\[commands\]"),
        ({"mlflow_conn_id": "mlflow_admin"}, r"\[connections\]"),
        ({"environment": "prod"}, r"\[runner\]"),
        ({"environment": "prd", "use_run_params": True}, r"\[environment\]"),
    ],
)
def test_forbidden_process_never_starts(
    change: dict[str, Any], message: str, api_requests: Any, context: Any, resolved: Any, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    if "command" in change:
        change = {"command": ["touch", str(mark)]}
    with pytest.raises(AirflowFailException, match=message):
        run_process(context, resolved, **change)
    assert not mark.exists()


def test_process_by_hand_is_left_alone(api_requests: Any, context: Any, resolved: Any, tmp_path: Path) -> None:
    run_process(context, resolved, environment="mine", command=["touch", str(tmp_path / "mark")])
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"experiment": "/fraud", "run_tag": {"a": "b"}}}, r"experiment: in 'prod': .*\[experiments\]"),
        ({"model": {"registered_model": "fraud", "alias": "a"}}, r"\[registered_models\]"),
        ({"mlflow_conn_id": "mlflow_admin"}, r"\[connections\]"),
        ({"environment": "prd"}, r"'prd' is unknown; .*\[environment\]"),
    ],
)
def test_a_forbidden_model_is_not_resolved_for_partitions_either(change: dict[str, Any], message: str) -> None:
    allowed = {
        "model": {"experiment": "/churn/gbm", "run_tag": {"a": "b"}},
        "mlflow_conn_id": "mlflow_prod",
        "environment": "prod",
    }
    operator = MLflowResolveModelOperator(task_id="resolve", use_run_params=True, **{**allowed, **change})
    with pytest.raises(AirflowFailException, match=message):
        operator.execute.__wrapped__(operator, {})
    MLflowResolveModelOperator(task_id="resolve", use_run_params=True, **allowed).refuse_forbidden_task(runner=None)


def test_declared_tasks_are_judged_without_airflows_setting_too(
    environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FILE_SETTING)
    declaration = environments.with_name("churn.yaml")
    declaration.write_text(DECLARATION)
    [dag] = load_model_dags(declaration).values()
    resolve = dag.get_task("resolve")
    assert resolve.platform_settings is not None
    environments.write_text(ENVIRONMENTS.replace("/churn/*", "/fraud/*"))
    [dag] = load_model_dags(declaration, environments=_weaker(environments)).values()
    assert dag.get_task("resolve").platform_settings.allow.experiments is None
    assert "environments" not in str(DagSerialization.to_dict(dag)).replace("airflow_mlops_provider", "")
    monkeypatch.setenv(FILE_SETTING, str(environments))
    task = dag.get_task("resolve")
    del task.platform_settings
    with pytest.raises(AirflowFailException, match=r"\[experiments\]"):
        task.execute.__wrapped__(task, {})


def _weaker(file: Path) -> Path:
    weak = file.with_name("weak.yaml")
    weak.write_text(ENVIRONMENTS.replace(', experiments: ["/churn/*"]', ""))
    return weak


def test_a_declared_task_that_nobody_judges_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(FILE_SETTING)
    operator = MLflowResolveModelOperator(task_id="resolve", use_run_params=True, model="models:/m/1")
    assert operator.platform_settings is None
    assert "[mlops] environments_file is not set" in caplog.text
