"""Where the jobs of the demonstration run: as processes of the Airflow worker, or as pods of the development cluster.

Decides what differs between the two: MLflow's address, ``environments.yaml``, the URIs of input and output, Airflow's
connections. A place is set up before the story begins and cleared away after it has ended. Does I/O for the cluster.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_mlops_provider.demo import declarations
from airflow_mlops_provider.demo.display import Display
from airflow_mlops_provider.demo.process import DemoError

_CLAIM = "demo-data"
_MOUNT = "/data"
_REMOVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What differs with where the jobs run.

    :param title: as the result names it.
    :param mlflow_host: address at which jobs reach MLflow.
    :param environments: text of ``environments.yaml``.
    :param data_uri: the story's data directory, as jobs see it; no slash at the end.
    :param connections: Airflow's, beside MLflow's.
    """

    title: str
    mlflow_host: str
    environments: str
    data_uri: str
    connections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@contextmanager
def on_this_machine(data: Path) -> Iterator[Place]:
    """Run jobs as processes of the Airflow worker."""
    yield Place(
        title="a process of the Airflow worker",
        mlflow_host="127.0.0.1",
        environments=declarations.write_local_environments(),
        data_uri=data.as_uri(),
    )


@contextmanager
def on_the_cluster(data: Path, display: Display) -> Iterator[Place]:
    """Run jobs as pods, in a namespace of their own that admits restricted pods only.

    :param data: directory that pods see through a volume; they run as another user, so it is opened to everybody.
    :raises DemoError: there is no cluster, and none can be brought up.
    """
    if find_spec("devcluster") is None:
        raise DemoError("the development cluster comes with a checkout only; run `make demo CLUSTER=1` there")
    devcluster = import_module("devcluster")
    was_up = _devcluster("status").returncode == 0
    try:
        title = "The development cluster comes up (minutes the first time)"
        with display.step(title, "The development cluster is up", talkative=True):
            cluster = devcluster.ensure_cluster(with_image=True)
        with _namespace(cluster.kubeconfig, data) as namespace:
            yield Place(
                title=f"a pod in the namespace {namespace}",
                mlflow_host=cluster.node_ip,
                environments=declarations.write_pod_environments(namespace, cluster.image, _CLAIM, _MOUNT),
                data_uri=f"file://{_MOUNT}",
                connections={
                    declarations.KUBERNETES_CONNECTION: {
                        "conn_type": "kubernetes",
                        "extra": {"kube_config_path": str(cluster.kubeconfig)},
                    }
                },
            )
    except devcluster.DevclusterError as error:
        raise DemoError(f"no cluster: {error}") from error
    finally:
        if not was_up:
            with display.step("The development cluster is taken down"):
                _devcluster("down")


@contextmanager
def _namespace(kubeconfig: Path, data: Path) -> Iterator[str]:
    from kubernetes import client, config

    core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    name = f"mlops-demo-{uuid.uuid4().hex[:8]}"
    data.chmod(0o777)
    data.parent.chmod(0o711)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    access = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        **access,
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": str(data)},
        "claimRef": {"namespace": name, "name": _CLAIM},
    }
    claim = {**access, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}
    try:
        core.create_namespace({"metadata": {"name": name, "labels": labels}})
        core.create_persistent_volume({"metadata": {"name": name}, "spec": volume})
        core.create_namespaced_persistent_volume_claim(name, {"metadata": {"name": _CLAIM}, "spec": claim})
        yield name
    finally:
        with suppress(client.ApiException):
            core.delete_namespace(name)
        with suppress(client.ApiException):
            core.delete_persistent_volume(name)
        with suppress(client.ApiException):  # 404 is what is waited for
            deadline = time.monotonic() + _REMOVE_SECONDS
            while time.monotonic() < deadline and core.read_namespace(name):
                time.sleep(1)


def _devcluster(command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "devcluster", command], capture_output=True, check=False)
