"""A pod over a template of the platform's, on a real kubelet.

The manifest is the one that ``explain`` shows; that it is the operator's is told by the unit tests of ``pod_preview``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops_provider.cli.admission_policy import build_objects
from airflow_mlops_provider.dag_factory.pod_preview import build_pod_preview
from airflow_mlops_provider.declaration import load_declaration, load_environments
from devcluster import Cluster

ENVIRONMENTS = """
apiVersion: mlops/v1
templates:
  filled:
    pod:
      volumes: [{name: scratch, emptyDir: {sizeLimit: 16Mi}}]
      volumeMounts: [{name: scratch, mountPath: /scratch, readOnly: true}]
      initContainers:
        - name: fill
          image: mlops.local/model-runtime:dev
          command: [sh, -c, "echo from the template > /scratch/told"]
          resources: {limits: {cpu: 100m, memory: 64Mi}}
          volumeMounts: [{name: scratch, mountPath: /scratch}]
      terminationGracePeriodSeconds: 1
environments:
  prod:
    namespace: NAMESPACE
    model: {latest_run: true}
    allow: {images: [mlops.local/], max_cpu: 1, max_memory: 1Gi, templates: [filled]}
"""
DECLARATION = """
apiVersion: mlops/v1
model: extending
owner: me@example.com
experiment: /extending
batch:
  image: mlops.local/model-runtime:dev
  command: [cat, /scratch/told]
  resources: {cpu: 100m, memory: 64Mi}
  extends: filled
environments: {prod: }
"""


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[tuple[Any, str]]:
    from kubernetes import client, config

    api = config.new_client_from_config(str(cluster.kubeconfig))
    name = f"template-{uuid.uuid4().hex[:8]}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
    yield api, name
    client.CoreV1Api(api).delete_namespace(name)


@pytest.mark.cluster
def test_what_a_template_adds_is_there_and_admitted(namespace: tuple[Any, str], tmp_path: Path) -> None:
    from kubernetes import client

    (api, name), file = namespace, tmp_path / "extending.yaml"
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS.replace("NAMESPACE", name))
    file.write_text(DECLARATION)
    environments = load_environments(tmp_path / "environments.yaml")
    (model,) = load_declaration(file, environments)
    assert model.batch is not None
    pod = build_pod_preview(model, model.batch)
    core, admission = client.CoreV1Api(api), client.AdmissionregistrationV1Api(api)
    create = {
        "ValidatingAdmissionPolicy": admission.create_validating_admission_policy,
        "ValidatingAdmissionPolicyBinding": admission.create_validating_admission_policy_binding,
    }
    delete = {
        "ValidatingAdmissionPolicy": admission.delete_validating_admission_policy,
        "ValidatingAdmissionPolicyBinding": admission.delete_validating_admission_policy_binding,
    }
    objects = build_objects({name: environments["prod"]})
    for item in objects:
        create[item["kind"]](item)
    pod["metadata"]["labels"]["airflow-mlops/environment"] = name
    try:
        core.create_namespaced_pod(name, pod)
        assert _wait_until_over(core, name, pod["metadata"]["name"]) == "Succeeded"
        log = core.read_namespaced_pod_log(pod["metadata"]["name"], name, container="base", _preload_content=False)
        assert log.data == b"from the template\n"
    finally:
        for item in objects:
            delete[item["kind"]](item["metadata"]["name"])


def _wait_until_over(core: Any, namespace: str, name: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        pod = core.read_namespaced_pod(name, namespace)
        if pod.status.phase in ("Succeeded", "Failed"):
            return str(pod.status.phase)
        time.sleep(0.5)
    raise AssertionError(pod.status)
