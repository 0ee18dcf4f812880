"""Every forbidden field × the walls before the API server, each with the others out of the way.

«Out of the way»: the declaration is read under weak settings by everything but the wall in question, which alone has
the platform's. ``tests/cluster/test_policy_walls.py`` asks the same rows of the API server.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.cli.main import main
from airflow_mlops_provider.exceptions import PolicyError

FILE_SETTING = "AIRFLOW__MLOPS__ENVIRONMENTS_FILE"
DIGEST = "@sha256:" + "0" * 64
PLATFORM: dict[str, Any] = {
    "namespace": "ml-prod",
    "image": "registry.example/runtime:1",
    "model": {"run_tag": {"stage": "prod"}},
    "connections": {"mlflow": "mlflow_prod", "kubernetes": "k8s_prod"},
    "service_account": "runner",
    "node_selector": {"pool": "prod"},
    "mlflow_credentials": {"secret": "mlflow-token"},
    "mlflow_tracking_uri": "http://mlflow.internal",
    "deferrable": False,
    "allow": {
        "images": ["registry.example/teams/"],
        "require_digest": True,
        "commands": False,
        "max_cpu": "2",
        "max_memory": "4Gi",
        "max_partitions": 4,
        "uri_schemes": ["s3"],
        "experiments": ["/churn/*"],
        "jinja": ["ds"],
        "templates": ["disk"],
    },
}
_INIT = {
    "name": "fill",
    "image": f"registry.example/teams/fill{DIGEST}",
    "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
}


def _nodes(value: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


#: The platform allows ``disk`` and none of the others.
TEMPLATES: dict[str, Any] = {
    "disk": {
        "volumes": [
            {
                "name": "scratch",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
                    }
                },
            },
            {"name": "ca", "configMap": {"name": "ca"}},
            {"name": "licence", "secret": {"secretName": "licence"}},
        ],
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "ca", "mountPath": "/ca"}],
        "initContainers": [
            {
                **_INIT,
                "image": "docker.io/fill:1",
                "command": ["fill"],
                "env": [{"name": "LD_LIBRARY_PATH", "value": "/opt"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }
        ],
        "affinity": _nodes("ssd"),
        "terminationGracePeriodSeconds": 45,
    },
    "secret-files": {"volumes": [{"name": "licence", "secret": {"secretName": "admin"}}]},
    "any-config": {"volumes": [{"name": "ca", "configMap": {"name": "admin"}}]},
    "any-image": {"initContainers": [{**_INIT, "image": f"docker.io/fill{DIGEST}"}]},
    "any-command": {"initContainers": [{**_INIT, "command": ["sh"]}]},
    "other-nodes": {"affinity": _nodes("gpu")},
}
WEAK_ALLOW = {
    "images": ["registry.example/", "docker.io/"],
    "commands": True,
    "max_gpu": 64,
    "max_partitions": 1000,
    "uri_schemes": ["s3", "file", "https"],
    "jinja": ["ds", "conn.mlflow_prod.password"],
    "templates": list(TEMPLATES),
}
DECLARATION: dict[str, Any] = {
    "apiVersion": "mlops/v1",
    "model": "churn",
    "owner": "me",
    "experiment": "/churn/gbm",
    "batch": {"input": "s3://in/", "output": "s3://out/"},
    "environments": {"prod": {}},
}
DECLARED, TASK, POD = "declared", "task", "pod"


@dataclass(frozen=True)
class Row:
    """One forbidden wish.

    :param batch: what the declaration says.
    :param model: the same, above ``batch``.
    :param drift: what other settings than the platform's would grant: a declaration has no field for it.
    :param judged: by which walls; all that can see it.
    """

    rule: str
    batch: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    judged: tuple[str, ...] = (DECLARED, TASK, POD)

    def declaration(self) -> dict[str, Any]:
        return {**DECLARATION, **self.model, "batch": {**DECLARATION["batch"], **self.batch}}

    def weak_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {**copy.deepcopy(settings), **self.drift, "allow": WEAK_ALLOW}


ROWS = [
    Row("images", {"image": f"docker.io/x{DIGEST}"}),
    Row("require_digest", {"image": "registry.example/teams/x:1"}),
    Row("commands", {"command": ["sh", "-c", "id"]}),
    Row("commands", {"image": f"registry.example/teams/x{DIGEST}", "args": ["--all"]}),
    Row("commands", {"env": {"PYTHONPATH": "/data"}}),
    Row("max_cpu", {"resources": {"cpu": "3"}}),
    Row("max_memory", {"resources": {"memory": "5Gi"}}),
    Row("max_gpu", {"resources": {"gpu": 1}}),
    Row("max_partitions", {"partitions": 5}),
    Row("uri_schemes", {"input": "file:///etc/shadow"}),
    Row("uri_schemes", {"output": "https://elsewhere.example/"}),
    Row("experiments", model={"experiment": "/fraud"}, judged=(DECLARED, TASK)),
    # Rendered by then: what a template may read has to be settled before.
    Row("jinja", {"input": "s3://{{ conn.mlflow_prod.password }}/"}, judged=(DECLARED,)),
    Row("jinja", {"env": {"A": "{{ conn.mlflow_prod.password }}"}}, judged=(DECLARED,)),
    Row("jinja", model={"description": "{{ ds }}"}, judged=(DECLARED,)),
    Row("templates", {"extends": "secret-files"}, judged=(DECLARED,)),
    # A pod does not say what it extends: its parts are judged.
    Row("secrets", {"extends": "secret-files"}, judged=(TASK, POD)),
    Row("volumes", {"extends": "any-config"}, judged=(TASK, POD)),
    Row("images", {"extends": "any-image"}, judged=(TASK, POD)),
    Row("commands", {"extends": "any-command"}, judged=(TASK, POD)),
    Row("node_selector", {"extends": "other-nodes"}, judged=(TASK, POD)),
    # The namespace decides which policy the API server asks.
    Row("namespace", drift={"namespace": "kube-system"}, judged=(TASK,)),
    Row("service_account", drift={"service_account": "admin"}, judged=(TASK, POD)),
    Row("node_selector", drift={"node_selector": {"pool": "other"}}, judged=(TASK, POD)),
    Row("tolerations", drift={"tolerations": [{"operator": "Exists"}]}, judged=(TASK, POD)),
    Row("secrets", drift={"mlflow_credentials": {"secret": "other"}}, judged=(TASK, POD)),
    Row("secrets", drift={"image_pull_secrets": ["other"]}, judged=(TASK, POD)),
    Row("volumes", drift={"volumes": [{"claim": "other", "mount_path": "/data"}]}, judged=(TASK, POD)),
    Row("mlflow_tracking_uri", drift={"mlflow_tracking_uri": "http://elsewhere"}, judged=(TASK, POD)),
    Row("connections", drift={"connections": {"mlflow": "admin", "kubernetes": "k8s_prod"}}, judged=(TASK,)),
    Row("connections", drift={"connections": {"mlflow": "mlflow_prod", "kubernetes": "admin"}}, judged=(TASK,)),
]
ALLOWED = (Row(""), Row("", {"extends": "disk"}))


def write_environments(file: Path, settings: dict[str, Any]) -> Path:
    templates = {name: {"pod": pod} for name, pod in TEMPLATES.items()}
    document = {"apiVersion": "mlops/v1", "templates": templates, "environments": {"prod": settings}}
    file.write_text(yaml.safe_dump(document))
    return file


def build_task(row: Row, settings: dict[str, Any], directory: Path, resolved: dict[str, Any]) -> Any:
    """Return the task that the factory builds under weak settings, its model settled."""
    declaration = directory / "churn.yaml"
    declaration.write_text(yaml.safe_dump(row.declaration()))
    weak = write_environments(directory / "weak.yaml", row.weak_settings(settings))
    [dag] = load_model_dags(declaration, environments=weak).values()
    task = dag.get_task("score")
    if task.is_mapped:
        return task.unmap({**task.partial_kwargs, "model": resolved, "partition": 0})
    if row.rule != "experiments":  # that one is judged before MLflow is asked
        task.model = resolved
    return task


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(FILE_SETTING, raising=False)
    return write_environments(tmp_path / "platform.yaml", PLATFORM)


def _rows(wall: str) -> list[Any]:
    return [pytest.param(row, id=f"{index}-{row.rule}") for index, row in enumerate(ROWS) if wall in row.judged]


@pytest.mark.parametrize("row", _rows(DECLARED))
def test_command_line_refuses(row: Row, platform: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "churn.yaml"
    file.write_text(yaml.safe_dump(row.declaration()))
    assert main(["validate", str(file), "--environments", str(platform)]) == 1
    assert f"[{row.rule}]" in capsys.readouterr().out


@pytest.mark.parametrize("row", _rows(DECLARED))
def test_factory_refuses(row: Row, platform: Path, tmp_path: Path) -> None:
    file = tmp_path / "churn.yaml"
    file.write_text(yaml.safe_dump(row.declaration()))
    with pytest.raises(PolicyError) as raised:
        load_model_dags(file, environments=platform)
    assert {problem.rule for problem in raised.value.problems} == {row.rule}


@pytest.mark.parametrize("row", _rows(TASK))
def test_operator_refuses(
    row: Row,
    platform: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api_requests: list[str],
    context: Any,
    resolved: Any,
) -> None:
    task = build_task(row, PLATFORM, tmp_path, resolved)
    monkeypatch.setenv(FILE_SETTING, str(platform))
    with pytest.raises(AirflowFailException, match=rf"in 'prod': .*\[{row.rule}\]"):
        task.execute.__wrapped__(task, context)
    assert api_requests == []


@pytest.mark.parametrize("row", ALLOWED, ids=["plain", "template"])
def test_walls_have_a_door(
    row: Row,
    platform: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api_requests: list[str],
    context: Any,
    resolved: Any,
) -> None:
    task = build_task(row, PLATFORM, tmp_path, resolved)
    assert main(["validate", str(tmp_path / "churn.yaml"), "--environments", str(platform)]) == 0
    assert load_model_dags(tmp_path / "churn.yaml", environments=platform)
    monkeypatch.setenv(FILE_SETTING, str(platform))
    with pytest.raises(Exception, match=r"403|Forbidden"):
        task.execute.__wrapped__(task, context)
    assert api_requests


def test_every_rule_of_the_platform_is_in_the_table() -> None:
    rules = {row.rule for row in ROWS}
    allow = {"images", "require_digest", "commands", "max_cpu", "max_memory", "max_gpu", "max_partitions", "jinja"}
    assert allow | {"uri_schemes", "experiments", "templates"} <= rules
