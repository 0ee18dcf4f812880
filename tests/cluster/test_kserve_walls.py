"""The admission policy lets the pods of an online service pass, and still refuses what they may not do."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from airflow_mlops_provider.cli.admission_policy import build_objects
from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.manifests.batch_pod import hardened_container_security_context

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import World, fails, probe_manifest, serving, world

__all__ = ["serving", "world"]

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def walled(serving: Any, world: World) -> Iterator[World]:
    """The namespace, with the policy of an environment that allows no commands of a pod's own."""
    prod = Environment.model_validate(
        {
            "namespace": world.namespace,
            "model": {"run_tag": {"stage": "prod"}},
            "image": serving.image,
            "mlflow_credentials": {"secret": "mlops-mlflow"},
            "allow": {"commands": False, "max_cpu": "2", "max_memory": "4Gi"},
        }
    )
    # One name for each test run: the policies are cluster-wide.
    name = f"prod-{world.namespace.removeprefix('kserve-')}"
    objects = build_objects({name: prod})
    for item in objects:
        world.of_kind(item["kind"]).create(body=item)
    try:
        _wait_until_it_holds(world)
        yield world
    finally:
        for item in objects:
            world.of_kind(item["kind"]).delete(name=item["metadata"]["name"])


def _wait_until_it_holds(world: World) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            world.of_kind("Pod").create(body=pod, namespace=world.namespace, dry_run="All")
        except ApiException as error:
            if error.status == 403:
                return
            raise
        time.sleep(0.2)
    pytest.fail("the policy does not hold")


def test_pods_of_the_standard_runtime_pass(walled: World, trainer: Any) -> None:
    trained = trainer.train("/tests/kserve-walls", seed=2)
    done = walled.deploy(
        "walled",
        model=f"models:/{trained.model_id}",
        environment=f"prod-{walled.namespace.removeprefix('kserve-')}",
        resources={"cpu": "500m", "memory": "1Gi"},
        smoke_test={"from": "input_example"},
        timeout_seconds=300,
    )
    assert done["created"] is True


def test_program_of_its_own_is_refused_with_the_rule(walled: World) -> None:
    environment = f"prod-{walled.namespace.removeprefix('kserve-')}"
    fails(
        lambda: walled.deploy("own", manifest=probe_manifest("[1]"), environment=environment),
        "the platform's admission policy refuses it",
        "not allowed [",
    )


@pytest.mark.parametrize(
    ("image", "rule"),
    [("registry.example.evil/serving:1", "images"), ("mlops.local/busybox:dev", "images"), (None, None)],
)
def test_serving_image_of_somebody_else_is_refused(
    walled: World, serving: Any, image: str | None, rule: str | None
) -> None:
    """Nothing but the image is wrong: it serves, it is restricted, it stays below the limits."""
    environment = f"prod-{walled.namespace.removeprefix('kserve-')}"
    container = {
        "name": "kserve-container",
        "image": image or serving.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve", "--model-dir=/mnt/models"],
        "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
        "securityContext": hardened_container_security_context(65532),
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "serving", "labels": {"airflow-mlops/environment": environment}},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }
    said = _refusal(walled, pod)
    assert (f"not allowed [{rule}]" in said) if rule else said == ""


def _refusal(walled: World, pod: dict[str, Any]) -> str:
    try:
        walled.of_kind("Pod").create(body=pod, namespace=walled.namespace, dry_run="All")
    except ApiException as error:
        return str(error.body)
    return ""
