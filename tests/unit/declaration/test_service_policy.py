"""What an environment allows an online service to ask for."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.service_policy import check_service
from airflow_mlops_provider.manifests.inference_service import ServiceOptions, build_inference_service

MODEL = {"uri": "models:/m-1", "digest": "sha256:ab"}


def environment(**changes: Any) -> Environment:
    settings = {
        "namespace": "ml",
        "model": {"latest_run": True},
        "node_selector": {"pool": "prod"},
        "image": "registry.example/runtime:1",
        "service_account": "runner",
        "mlflow_credentials": {"secret": "token"},
        "allow": {
            "images": ("registry.example/",),
            "max_cpu": "2",
            "max_memory": "4Gi",
            "max_replicas": 3,
            "commands": False,
        },
    }
    return Environment.model_validate({**settings, **changes})


def manifest(**changes: Any) -> dict[str, Any]:
    options = {
        "name": "churn",
        "namespace": "ml",
        "node_selector": {"pool": "prod"},
        "service_account_name": "runner",
        "resources": {"cpu": "1", "memory": "2Gi"},
        **changes,
    }
    return build_inference_service(ServiceOptions(**options), MODEL, {"MODEL_URI": "models:/m-1"})


def rules(item: dict[str, Any], settings: Environment) -> set[str]:
    return {violation.rule for violation in check_service(item, settings)}


def test_declared_service_keeps_every_rule() -> None:
    assert check_service(manifest(), environment()) == []
    assert check_service(manifest(image="registry.example/own:2", max_replicas=3), environment()) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"namespace": "kube-system"}, "namespace"),
        ({"image": "evil.example/x:1"}, "images"),
        ({"resources": {"cpu": "3", "memory": "2Gi"}}, "max_cpu"),
        ({"resources": {"cpu": "1", "memory": "8Gi"}}, "max_memory"),
        ({"resources": {"cpu": "1", "memory": "1Gi", "gpu": 1}}, "max_gpu"),
        ({"resources": None}, "max_cpu"),
        ({"max_replicas": 4}, "max_replicas"),
        ({"runtime": "theirs"}, "runtimes"),
        ({"logger": {"url": "http://evil.example/"}}, "logger_urls"),
        ({"logger": {"mode": "all"}}, "logger_urls"),
        ({"min_replicas": 4}, "max_replicas"),
        ({"node_selector": {"pool": "gpu"}}, "node_selector"),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations"),
        ({"service_account_name": "admin"}, "service_account"),
        ({"image_pull_secrets": ["theirs"]}, "secrets"),
        ({"env_vars": {"LD_PRELOAD": "x"}}, "commands"),
        ({"overrides": {"predictor": {"model": {"args": ["--evil"]}}}}, "commands"),
        ({"overrides": {"predictor": {"hostNetwork": True}}}, "host_namespaces"),
        ({"overrides": {"predictor": {"model": {"securityContext": {"privileged": True}}}}}, "restricted"),
        ({"overrides": {"predictor": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}}, "volumes"),
        (
            {"overrides": {"predictor": {"model": {"envFrom": [{"secretRef": {"name": "db"}}]}}}},
            "secrets",
        ),
        ({"overrides": {"transformer": {"containers": [{"name": "t", "image": "evil.example/x"}]}}}, "images"),
    ],
)
def test_each_rule_is_enforced(changes: dict[str, Any], rule: str) -> None:
    assert rule in rules(manifest(**changes), environment())


def test_listed_runtime_and_address_pass() -> None:
    allow = {"runtimes": ("own-1",), "logger_urls": ("http://log.example/",), "max_cpu": "2", "max_memory": "4Gi"}
    asked = manifest(runtime="own-1", logger={"url": "http://log.example/churn"})
    assert check_service(asked, environment(allow=allow)) == []


def test_whole_manifests_are_judged_as_well() -> None:
    llm = {
        "kind": "LLMInferenceService",
        "metadata": {"namespace": "ml"},
        "spec": {"replicas": 9, "template": {"containers": [{"name": "main", "image": "evil.example/x"}]}},
    }
    assert {"images", "max_replicas", "node_selector"} <= rules(llm, environment())
