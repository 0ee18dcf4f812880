from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_mlops_provider.dag_factory.pod_arguments import STANDARD_COMMAND as FACTORY_COMMAND
from airflow_mlops_provider.declaration.defined_template import DefinedTemplate
from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.pod_policy import STANDARD_COMMAND, check_pod, check_process, check_task
from airflow_mlops_provider.declaration.pod_template import PodTemplate
from airflow_mlops_provider.operators.local import STANDARD_COMMAND as DEFAULT_COMMAND

STANDARD_IMAGE = "registry.example/runtime:1"
SETTINGS: dict[str, Any] = {
    "namespace": "ml-prod",
    "image": STANDARD_IMAGE,
    "model": {"run_tag": {"stage": "prod"}},
    "connections": {"mlflow": "mlflow_prod", "kubernetes": "k8s_prod"},
    "service_account": "runner",
    "node_selector": {"pool": "prod"},
    "tolerations": ({"key": "dedicated", "value": "ml", "effect": "NoSchedule"},),
    "image_pull_secrets": ("registry-key",),
    "mlflow_credentials": {"secret": "mlflow-token", "keys": {"MLFLOW_TRACKING_TOKEN": "token"}},
    "mlflow_tracking_uri": "http://mlflow.internal",
    "volumes": ({"claim": "data", "mount_path": "/data", "read_only": True},),
    "env": {"PYTHONUNBUFFERED": "1"},
    "allow": {
        "images": ("registry.example/teams/",),
        "require_digest": True,
        "commands": False,
        "max_cpu": "2",
        "max_memory": "4Gi",
        "max_partitions": 4,
        "uri_schemes": ("s3",),
        "experiments": ("/churn/*",),
    },
}
DIGEST = "@sha256:" + "0" * 64
CONTAINER: dict[str, Any] = {
    "name": "base",
    "image": STANDARD_IMAGE,
    "command": ["mlops-runtime", "score"],
    "env": [
        {"name": "INPUT_URI", "value": "s3://in/"},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
        {
            "name": "MLFLOW_TRACKING_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "mlflow-token", "key": "token", "optional": False}},
        },
    ],
    "resources": {"limits": {"cpu": "2", "memory": "3Gi"}},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
POD: dict[str, Any] = {
    "metadata": {"name": "x", "namespace": "ml-prod"},
    "spec": {
        "containers": [CONTAINER],
        "serviceAccountName": "runner",
        "nodeSelector": {"pool": "prod"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}],
        "imagePullSecrets": [{"name": "registry-key"}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
        ],
    },
}


def settings(allow: dict[str, Any] | None = None, **changes: Any) -> Environment:
    return Environment.model_validate({**SETTINGS, **changes, "allow": {**SETTINGS["allow"], **(allow or {})}})


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good pod with one field replaced; ``base.`` stands for its container."""
    pod = copy.deepcopy(POD)
    steps = path.replace("base.", "spec.containers.0.").split(".")
    place: Any = pod
    for step in steps[:-1]:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    place[steps[-1]] = value
    return pod


def test_the_pod_that_the_environment_means_is_allowed() -> None:
    assert check_pod(POD, settings()) == []


SECOND = {**CONTAINER, "name": "second", "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}}}
NODE_AFFINITY = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]
    }
}
SECRET_VARIABLE = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "token"}}}]


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("metadata.namespace", "kube-system", "namespace"),
        ("metadata.namespace", None, "namespace"),
        ("spec.serviceAccountName", "admin", "service_account"),
        ("spec.serviceAccountName", None, "service_account"),
        ("spec.serviceAccount", "admin", "service_account"),
        ("spec.nodeSelector", None, "node_selector"),
        ("spec.nodeSelector", {"pool": "dev"}, "node_selector"),
        ("spec.nodeSelector", {"pool": "prod", "gpu": "yes"}, "node_selector"),
        ("spec.nodeName", "node-1", "node_selector"),
        ("spec.affinity", {"nodeAffinity": NODE_AFFINITY}, "node_selector"),
        ("spec.priorityClassName", "system-node-critical", "priority_class"),
        ("spec.runtimeClassName", "no-sandbox", "runtime_class"),
        ("spec.tolerations", [{"operator": "Exists"}], "tolerations"),
        ("base.image", "docker.io/x" + DIGEST, "images"),
        ("base.image", "registry.example/teams/x:1", "require_digest"),
        ("base.image", None, "images"),
        ("spec.initContainers", [{**SECOND, "image": "docker.io/x" + DIGEST}], "images"),
        ("base.command", ["sh"], "commands"),
        ("base.args", ["--x"], "commands"),
        ("base.env", [{"name": "PYTHONPATH", "value": "/data"}], "commands"),
        ("base.env", [{"name": "PYTHONUNBUFFERED", "value": "2"}], "commands"),
        ("base.resources.limits", {"cpu": "3", "memory": "1Gi"}, "max_cpu"),
        ("base.resources.limits", {"cpu": "1", "memory": "5Gi"}, "max_memory"),
        ("base.resources.limits", {"memory": "1Gi"}, "max_cpu"),
        ("base.resources.limits", {"cpu": "1"}, "max_memory"),
        ("base.resources.limits", {"cpu": "1e9", "memory": "1Gi"}, "max_cpu"),
        ("base.resources.limits", {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}, "max_gpu"),
        ("base.resources.limits", {"cpu": "1", "memory": "1Gi", "amd.com/gpu": "1"}, "max_gpu"),
        ("spec.resourceClaims", [{"name": "gpu", "resourceClaimName": "gpu"}], "max_gpu"),
        ("spec.resources", {"limits": {"cpu": "9"}}, "max_cpu"),
        ("spec.containers", [CONTAINER, SECOND], "max_cpu"),
        ("spec.initContainers", [{**SECOND, "restartPolicy": "Always"}], "max_cpu"),
        ("spec.initContainers", [SECOND], None),
        ("base.env", SECRET_VARIABLE, "secrets"),
        (
            "base.env",
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "mlflow-token", "key": "admin"}}}],
            "secrets",
        ),
        ("base.env", [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}], "config_maps"),
        ("base.envFrom", [{"secretRef": {"name": "mlflow-token"}}], "secrets"),
        ("base.envFrom", [{"configMapRef": {"name": "c"}}], "config_maps"),
        ("spec.imagePullSecrets", [{"name": "other"}], "secrets"),
        ("spec.volumes", [{"name": "v", "secret": {"secretName": "mlflow-token"}}], "secrets"),
        ("spec.volumes", [{"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}]}}], "secrets"),
        ("spec.volumes", [{"name": "v", "hostPath": {"path": "/"}}], "volumes"),
        ("spec.volumes", [{"name": "v", "csi": {"driver": "x"}}], "volumes"),
        ("spec.volumes", [{"name": "v", "persistentVolumeClaim": {"claimName": "other"}}], "volumes"),
        ("spec.volumes", [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}], "volumes"),
        ("spec.hostNetwork", True, "host_namespaces"),
        ("spec.hostPID", True, "host_namespaces"),
        ("spec.hostIPC", True, "host_namespaces"),
        ("base.ports", [{"containerPort": 80, "hostPort": 80}], "host_namespaces"),
        ("base.securityContext", {"privileged": True, "capabilities": {"drop": ["ALL"]}}, "restricted"),
        ("base.securityContext.allowPrivilegeEscalation", None, "restricted"),
        ("base.securityContext.runAsUser", 0, "restricted"),
        ("base.securityContext.runAsNonRoot", False, "restricted"),
        ("base.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "restricted"),
        ("base.securityContext.procMount", "Unmasked", "restricted"),
        ("spec.securityContext", None, "restricted"),
        ("spec.securityContext.sysctls", [{"name": "a", "value": "b"}], "restricted"),
    ],
)
def test_whatever_a_pod_really_asks_for_is_judged(path: str, value: Any, rule: str | None) -> None:
    found = check_pod(changed(path, value), settings())
    assert {item.rule for item in found} == ({rule} if rule else set())


def _nodes(value: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": [value]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def _disk(**changes: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}
    return {"name": "disk", "ephemeral": {"volumeClaimTemplate": {"spec": {**spec, **changes}}}}


INIT: dict[str, Any] = {
    "name": "fill",
    "image": "docker.io/fill:1",
    "command": ["fill"],
    "args": ["--all"],
    "env": [{"name": "LD_LIBRARY_PATH", "value": "/opt"}],
    "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
}
TEMPLATE: dict[str, Any] = {
    "volumes": [
        _disk(),
        {"name": "ca", "configMap": {"name": "ca"}},
        {"name": "licence", "secret": {"secretName": "licence"}},
        {"name": "shared", "persistentVolumeClaim": {"claimName": "shared", "readOnly": True}},
    ],
    "initContainers": [INIT],
    "affinity": _nodes("ssd"),
    "priorityClassName": "system-cluster-critical",
}
_FRAME = {"securityContext": CONTAINER["securityContext"]}


def _tuples(value: Any) -> Any:
    """What is read from YAML holds tuples."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def settings_with_template(**changes: Any) -> Environment:
    environment = settings({"templates": ("disk",)}, **changes)
    init = {**INIT, "resources": {"limits": INIT["resources"]["limits"]}}
    template = PodTemplate.model_validate({"pod": _tuples({**TEMPLATE, "initContainers": [init]})})
    defined = DefinedTemplate(name="disk", spec=template.pod_spec(), mounts=(), file="environments.yaml", line=1)
    environment.define(notifiers={}, templates={"disk": defined, "other": defined})
    return environment


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("spec.volumes", TEMPLATE["volumes"], None),
        ("spec.volumes", [_disk(storageClassName="slow")], "volumes"),
        ("spec.volumes", [_disk(resources={"requests": {"storage": "2Gi"}})], "volumes"),
        ("spec.volumes", [{"name": "ca", "configMap": {"name": "other"}}], "volumes"),
        ("spec.volumes", [{"name": "other", "configMap": {"name": "ca"}}], "volumes"),
        ("spec.volumes", [{"name": "licence", "secret": {"secretName": "other"}}], "secrets"),
        ("spec.volumes", [{"name": "other", "secret": {"secretName": "licence"}}], "secrets"),
        ("spec.volumes", [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}], "volumes"),
        ("spec.volumes", [{"name": "ca", "hostPath": {"path": "/"}}], "volumes"),
        ("spec.initContainers", [{**INIT, **_FRAME}], None),
        ("spec.initContainers", [{**INIT, **_FRAME, "image": "docker.io/fill:2"}], "images"),
        ("spec.initContainers", [{**INIT, **_FRAME, "command": ["sh"]}], "commands"),
        ("spec.initContainers", [{**INIT, **_FRAME, "args": ["--none"]}], "commands"),
        ("spec.initContainers", [{**INIT, **_FRAME, "name": "other"}], "commands"),
        (
            "spec.initContainers",
            [{**INIT, **_FRAME, "env": [{"name": "LD_PRELOAD", "value": "/x"}]}],
            "commands",
        ),
        ("spec.initContainers", [{**INIT, "securityContext": {"privileged": True}}], "restricted"),
        ("spec.affinity", _nodes("ssd"), None),
        ("spec.priorityClassName", "system-cluster-critical", None),
        ("spec.priorityClassName", "system-node-critical", "priority_class"),
        ("spec.affinity", _nodes("gpu"), "node_selector"),
    ],
)
def test_exactly_what_a_template_adds_is_allowed(path: str, value: Any, rule: str | None) -> None:
    rules = {item.rule for item in check_pod(changed(path, value), settings_with_template())}
    assert rule in rules if rule else rules == set()
    assert check_pod(changed(path, value), settings()) != []  # where no template is allowed, nothing of it is


def test_commands_are_allowed_in_pods_unless_the_platform_says_no() -> None:
    assert check_pod(changed("base.command", ["sh"]), settings({"commands": None})) == []


def test_values_of_variables_are_never_repeated() -> None:
    pod = changed("base.env", [{"name": "PYTHONPATH", "value": "hunter2"}])
    assert "hunter2" not in str(check_pod(pod, settings()))


TASK: dict[str, Any] = {
    "runner": "kubernetes",
    "connections": {"mlflow": "mlflow_prod", "kubernetes": "k8s_prod"},
    "uris": {"input_uri": "s3://in/", "output_uri": None},
    "model": {"experiment": "/churn/gbm", "run_tag": {"stage": "prod"}},
    "tracking_uri": "http://mlflow.internal",
    "partitions": 4,
}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"tracking_uri": None}, None),
        ({"runner": "local"}, "runner"),
        ({"connections": {"mlflow": "mlflow_admin"}}, "connections"),
        ({"connections": {"mlflow": "mlflow_prod", "kubernetes": None}}, "connections"),
        ({"uris": {"input_uri": "file:///etc/shadow"}}, "uri_schemes"),
        ({"tracking_uri": "http://elsewhere"}, "mlflow_tracking_uri"),
        ({"partitions": 5}, "max_partitions"),
        ({"model": {"experiment": "/fraud"}}, "experiments"),
    ],
)
def test_what_a_task_asks_for_beside_its_pod_is_judged(change: dict[str, Any], rule: str | None) -> None:
    assert [item.rule for item in check_task(settings(), **{**TASK, **change})] == ([rule] if rule else [])


@pytest.mark.parametrize(
    ("command", "variables", "rule"),
    [
        (STANDARD_COMMAND, {"A": "1", "PYTHONUNBUFFERED": "1"}, None),
        (["sh", "-c", "id"], {}, "commands"),
        ([*STANDARD_COMMAND, "--x"], {}, "commands"),
        (STANDARD_COMMAND, {"LD_PRELOAD": "/x"}, "commands"),
    ],
)
def test_local_process_runs_the_standard_program_only(command: list[str], variables: Any, rule: str | None) -> None:
    local = settings({"commands": None, "images": ()}, runner="local")
    assert [item.rule for item in check_process(command, variables, local)] == ([rule] if rule else [])


def test_one_standard_command_everywhere() -> None:
    assert STANDARD_COMMAND == FACTORY_COMMAND == DEFAULT_COMMAND
