"""KServe in the development cluster: services become ready and answer, webhooks refuse what is wrong."""

from __future__ import annotations

import os
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from devcluster import Cluster, external
from devcluster.binaries import KSERVE
from devcluster.containers import BUSYBOX_IMAGE

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(os.environ.get("MLOPS_KUBECONFIG")), reason="the cluster under test is somebody else's"),
]

ISVC = ("serving.kserve.io", "v1beta1", "inferenceservices")
LLM = ("serving.kserve.io", "v1alpha2", "llminferenceservices")


class Objects:
    """Custom objects of one namespace."""

    def __init__(self, kube: Any, namespace: str) -> None:
        self.namespace = namespace
        self._api = client.CustomObjectsApi(kube.api_client)

    def create(self, resource: tuple[str, str, str], name: str, spec: dict[str, Any]) -> None:
        group, version, plural = resource
        kind = "InferenceService" if resource == ISVC else "LLMInferenceService"
        body = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self._api.create_namespaced_custom_object(group, version, self.namespace, plural, body)

    def is_ready(self, resource: tuple[str, str, str], name: str) -> bool:
        group, version, plural = resource
        found = self._api.get_namespaced_custom_object(group, version, self.namespace, plural, name)
        conditions = found.get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@pytest.fixture
def objects(kube: Any) -> Iterator[Objects]:
    name = f"devcluster-{uuid.uuid4().hex[:8]}"
    kube.create_namespace({"metadata": {"name": name}})
    yield Objects(kube, name)
    kube.delete_namespace(name)


def _until(check: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.3)


def _web_server(name: str, port: int, page: str, **fields: Any) -> dict[str, Any]:
    script = (
        f"mkdir /tmp/w && echo served > /tmp/w/{page} && trap 'exit 0' TERM; httpd -f -p {port} -h /tmp/w & wait $!"
    )
    command = ["sh", "-c", script]
    image = {"image": BUSYBOX_IMAGE, "imagePullPolicy": "IfNotPresent"}
    return {"name": name, **image, "command": command, **fields}


def _get(address: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://{address}", timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_inference_service_becomes_ready_and_answers(cluster: Cluster, kube: Any, objects: Objects) -> None:
    assert cluster.kserve == KSERVE.version
    container = _web_server("kserve-container", 8080, "index.html", ports=[{"containerPort": 8080, "protocol": "TCP"}])
    objects.create(ISVC, "hello", {"predictor": {"minReplicas": 1, "maxReplicas": 1, "containers": [container]}})
    _until(lambda: objects.is_ready(ISVC, "hello"))
    pods = kube.list_namespaced_pod(objects.namespace, label_selector="serving.kserve.io/inferenceservice=hello").items
    assert _get(f"{pods[0].status.pod_ip}:8080/") == b"served\n"
    service = kube.read_namespaced_service("hello-predictor", objects.namespace)
    _until(lambda: _get(f"{service.spec.cluster_ip}/") == b"served\n")  # kube-proxy follows within a second
    autoscaling = client.AutoscalingV2Api(kube.api_client)
    scaler = autoscaling.read_namespaced_horizontal_pod_autoscaler("hello-predictor", objects.namespace)
    assert scaler.spec.scale_target_ref.name == "hello-predictor"


def test_invalid_inference_service_is_refused_by_the_webhook(objects: Objects) -> None:
    container = _web_server("kserve-container", 8080, "index.html")
    spec = {"predictor": {"minReplicas": 3, "maxReplicas": 1, "containers": [container]}}
    with pytest.raises(ApiException, match=r"inferenceservice\.kserve-webhook-server\.validator.*cannot be greater"):
        objects.create(ISVC, "wrong", spec)


def test_misspelt_field_does_not_reach_the_stored_object(kube: Any, objects: Objects) -> None:
    container = _web_server("kserve-container", 8080, "index.html")
    objects.create(ISVC, "typo", {"predictor": {"minReplicaz": 7, "containers": [container]}})
    group, version, plural = ISVC
    api = client.CustomObjectsApi(kube.api_client)
    stored = api.get_namespaced_custom_object(group, version, objects.namespace, plural, "typo")
    assert "minReplicaz" not in stored["spec"]["predictor"]


def test_llm_inference_service_without_a_router_becomes_ready(kube: Any, objects: Objects, tmp_path: Path) -> None:
    access: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**access, "capacity": {"storage": "1Mi"}, "hostPath": {"path": str(tmp_path)}}
    kube.create_persistent_volume({"metadata": {"name": objects.namespace}, "spec": volume})
    claim = {**access, "volumeName": objects.namespace, "resources": {"requests": {"storage": "1Mi"}}}
    try:
        kube.create_namespaced_persistent_volume_claim(
            objects.namespace, {"metadata": {"name": "weights"}, "spec": claim}
        )
        probe = {"httpGet": {"scheme": "HTTP", "port": 8000, "path": "/health"}, "periodSeconds": 1}
        probes = {name: probe for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        container = _web_server("main", 8000, "health", securityContext={"runAsUser": 65534}, **probes)
        model = {"uri": "pvc://weights/tiny", "name": "tiny"}
        objects.create(LLM, "tiny", {"model": model, "replicas": 1, "template": {"containers": [container]}})
        _until(lambda: objects.is_ready(LLM, "tiny"))
    finally:
        kube.delete_persistent_volume(objects.namespace)


def test_version_of_a_foreign_kserve_is_that_of_its_controllers_image(
    cluster: Cluster, kube: Any, objects: Objects
) -> None:
    assert external.kserve_version(cluster.kubeconfig) == "unknown"  # here the controller is no Deployment
    labels = {"control-plane": "kserve-controller-manager"}
    container = {"name": "manager", "image": "registry.example/kserve/kserve-controller:v0.19.1@sha256:" + "0" * 64}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    body = {"metadata": {"name": "kserve-controller-manager", "labels": labels}, "spec": spec}
    client.AppsV1Api(kube.api_client).create_namespaced_deployment(objects.namespace, body)
    assert external.kserve_version(cluster.kubeconfig) == "v0.19.1"
