"""What the KServe tests share: the runtime installed, a namespace, operators run in this process, small probe services.

Test modules import the fixtures by name (pytest's importlib mode knows no sibling modules: see the first lines there).
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kserve"
BUSYBOX = "mlops.local/busybox:dev"
#: A model that nobody has to fetch: probe services serve a file.
NO_MODEL = {
    "uri": "models:/m-0",
    "source_uri": "s3://models/m-0/",
    "run_id": "0" * 32,
    "experiment_id": "1",
    "model_id": "m-0",
    "name": "probe",
    "version": None,
    "digest": "sha256:0",
    "git_commit": None,
    "run_url": None,
    "resolved_at": "2026-01-01T00:00:00+00:00",
}


_API_VERSIONS = {
    "InferenceService": "serving.kserve.io/v1beta1",
    "ClusterServingRuntime": "serving.kserve.io/v1alpha1",
    "ServingRuntime": "serving.kserve.io/v1alpha1",
    "ClusterStorageContainer": "serving.kserve.io/v1alpha1",
    "ValidatingAdmissionPolicy": "admissionregistration.k8s.io/v1",
    "ValidatingAdmissionPolicyBinding": "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
}


def kind_of(kubeconfig: Path, kind: str) -> Any:
    """Return the dynamic client of one kind."""
    from kubernetes import config, dynamic

    client = dynamic.DynamicClient(config.new_client_from_config(str(kubeconfig)))
    return client.resources.get(api_version=_API_VERSIONS.get(kind, "v1"), kind=kind)


_SCRIPT = """\
mkdir -p /tmp/www/cgi-bin
cat > /tmp/www/cgi-bin/predict <<'EOF'
#!/bin/sh
cat > /dev/null
{asked}
printf 'Content-type: application/json\\r\\n\\r\\n'
echo '{{"predictions": {answer}}}'
EOF
chmod +x /tmp/www/cgi-bin/predict
trap 'exit 7' TERM
{before}
httpd -f -p 8080 -h /tmp/www &
wait
"""


@dataclass(frozen=True)
class World:
    """A namespace in which operators of this process deploy."""

    namespace: str
    kubeconfig: Path

    def of_kind(self, kind: str) -> Any:
        return kind_of(self.kubeconfig, kind)

    def create(self, *objects: Any) -> None:
        for item in objects:
            self.of_kind(item["kind"]).create(body=item, namespace=self.namespace)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.of_kind(kind).get(name=name, namespace=self.namespace).to_dict()
        return found

    def exists(self, kind: str, name: str) -> bool:
        listed = self.of_kind(kind).get(namespace=self.namespace, field_selector=f"metadata.name={name}")
        return bool(listed.items)

    def wait_until_gone(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while self.exists("InferenceService", name):
            assert time.monotonic() < deadline, f"{name} is still there"
            time.sleep(0.1)

    def patch(self, name: str, spec: Any, manager: str = "somebody-else") -> None:
        """Change an InferenceService as a person would, by another name."""
        body = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": name}}
        self.of_kind("InferenceService").patch(
            body={**body, "spec": spec},
            namespace=self.namespace,
            content_type="application/merge-patch+json",
            field_manager=manager,
        )

    def remove(self, kind: str, name: str) -> None:
        self.of_kind(kind).delete(name=name, namespace=self.namespace)

    def deploy(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a deploy operator to its end, in the triggerer's way where it defers."""
        return deploy(self.namespace, name, **arguments)

    def wait(self, name: str, **arguments: Any) -> Any:
        from airflow_mlops_provider.sensors.kserve import KServeReadySensor

        fields = {"poll_interval_seconds": 0.5, "timeout_seconds": 60, **arguments}
        sensor = KServeReadySensor(
            task_id="wait", name=name, namespace=self.namespace, kubernetes_conn_id="k8s_kserve", **fields
        )
        return sensor.execute({})  # type: ignore[typeddict-item]

    def predict(self, name: str, **arguments: Any) -> dict[str, Any]:
        from airflow_mlops_provider.operators.kserve import KServePredictOperator

        operator = KServePredictOperator(
            task_id="predict", name=name, namespace=self.namespace, kubernetes_conn_id="k8s_kserve", **arguments
        )
        return operator.execute({})  # type: ignore[typeddict-item]

    def probe(self, name: str) -> Any:
        """Return what a probe service answers."""
        return self.predict(name, request={}, path="/cgi-bin/predict")["answers"][0]["predictions"]

    def delete(self, name: str, **arguments: Any) -> dict[str, Any]:
        from airflow_mlops_provider.operators.kserve import KServeDeleteOperator

        operator = KServeDeleteOperator(
            task_id="delete", name=name, namespace=self.namespace, kubernetes_conn_id="k8s_kserve", **arguments
        )
        return operator.execute({})  # type: ignore[typeddict-item]


def deploy(
    namespace: str,
    name: str,
    *,
    meanwhile: Callable[[], object] | None = None,
    killed_after_seconds: float | None = None,
    **arguments: Any,
) -> Any:
    """Run ``KServeDeployOperator``.

    :param meanwhile: called in another thread as soon as the wait has begun (deferrable only).
    :param killed_after_seconds: stop the task then, as the task runner does: by a signal that calls ``on_kill``.
    """
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_mlops_provider.operators.kserve import KServeDeployOperator

    operator = KServeDeployOperator(
        task_id="deploy",
        name=name,
        namespace=namespace,
        kubernetes_conn_id="k8s_kserve",
        mlflow_conn_id="mlflow_kserve",
        poll_interval_seconds=0.5,
        **{"timeout_seconds": 120, "model": NO_MODEL, **arguments},
    )
    context = build_context()
    try:
        with _killed(operator, killed_after_seconds):
            return operator.execute(context)
    except TaskDeferred as deferred:
        trigger, kwargs = deferred.trigger, deferred.kwargs or {}
    path, fields = trigger.serialize()
    assert path.endswith(type(trigger).__name__)
    # As the triggerer gets it: rebuilt from JSON.
    event = asyncio.run(_first_event(type(trigger)(**json.loads(json.dumps(fields))), meanwhile))
    again = KServeDeployOperator(**operator._BaseOperator__init_kwargs)
    return again.execute_complete(context, json.loads(json.dumps(event)), **json.loads(json.dumps(kwargs)))


@contextmanager
def _killed(operator: Any, seconds: float | None) -> Iterator[None]:
    def stop(*_: object) -> None:
        operator.on_kill()
        raise KeyboardInterrupt

    if seconds is None:
        yield
        return
    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


async def _first_event(trigger: Any, meanwhile: Callable[[], object] | None) -> Any:
    task = asyncio.create_task(_run(trigger))
    if meanwhile is not None:
        await asyncio.sleep(1)
        await asyncio.to_thread(meanwhile)
    return await task


async def _run(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


def build_context() -> Any:
    """Return as much of a task's context as the operators read; what is pushed is under ``pushed``."""
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(max_tries=0, xcom_push=lambda key, value: pushed.update({key: value}))
    moment = SimpleNamespace(run_after=datetime(2026, 1, 2, tzinfo=UTC))
    return {"ti": instance, "dag_run": moment, "run_id": "manual__1", "params": {}, "pushed": pushed}


def probe_manifest(
    answer: str = "[1, 2]", *, before: str = ":", asked: str = ":", image: str = BUSYBOX, **predictor: Any
) -> dict[str, Any]:
    """Return an InferenceService whose pods answer every prediction with *answer*, without a model.

    :param before: shell that runs before the server listens.
    :param asked: shell that runs before a prediction is answered.
    """
    script = _SCRIPT.format(answer=answer, before=before, asked=asked)
    container = {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "ports": [{"containerPort": 8080}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"annotations": {"serving.kserve.io/autoscalerClass": "none"}},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "maxReplicas": 1,
                "terminationGracePeriodSeconds": 2,
                "containers": [container],
                **predictor,
            }
        },
    }


SMOKE = {"request": {}, "path": "/cgi-bin/predict"}


def fails(work: Callable[[], object], *causes: str, within_seconds: float = 60) -> str:
    """Assert that *work* fails in time with all *causes* in the first line, and return the message."""
    from airflow.sdk.exceptions import AirflowFailException

    from airflow_mlops_provider.exceptions import TransientError

    started = time.monotonic()
    with pytest.raises((AirflowFailException, TransientError)) as caught:
        work()
    message = str(caught.value)
    first = message.splitlines()[0]
    assert all(cause in first for cause in causes), message
    assert time.monotonic() - started < within_seconds
    return message


@pytest.fixture(scope="session")
def serving(cluster: Any) -> Any:
    """A cluster with KServe and our runtime and storage container, as ``deploy/kserve`` has them."""
    if cluster.kserve is None:
        pytest.skip("the cluster has no KServe")
    for name in ("storage-container.yaml", "serving-runtime.yaml"):
        text = (MANIFESTS / name).read_text().replace("mlops-model-runtime:replace", str(cluster.image))
        for item in yaml.safe_load_all(text):
            kind = kind_of(cluster.kubeconfig, item["kind"])
            kind.server_side_apply(body=item, field_manager="tests", force_conflicts=True)
    return cluster


@pytest.fixture(scope="module")
def world(serving: Any, mlflow_server: Any, kube: Any, account: Any) -> Iterator[World]:
    """A namespace of the test module's own, and the connections ``k8s_kserve`` (by the account), ``mlflow_kserve``."""
    name = f"kserve-{uuid.uuid4().hex[:6]}"
    kube.create_namespace({"metadata": {"name": name}})
    account.admit(name)
    address = f"http://{serving.node_ip}:{mlflow_server.port}"
    kube.create_namespaced_secret(
        name, {"metadata": {"name": "mlops-mlflow"}, "stringData": {"MLFLOW_TRACKING_URI": address}}
    )
    connections = {
        "K8S_KSERVE": {"conn_type": "kubernetes", "extra": {"kube_config_path": str(account.kubeconfig)}},
        "MLFLOW_KSERVE": {"conn_type": "mlflow", "host": mlflow_server.url},
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in connections.items():
            patch.setenv(f"AIRFLOW_CONN_{key}", json.dumps(value))
        yield World(name, serving.kubeconfig)
    kube.delete_namespace(name)
