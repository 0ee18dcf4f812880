"""SIGKILL of the triggerer and of the API server while a rollout is waited for: the task still ends right, and once.

Nobody else's processes are killed: the Airflow is this module's own, and it speaks to a second API server of the
cluster, as large clusters have several. The operators have the rights of ``deploy/kserve/rbac.yaml``, as everywhere.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import NO_MODEL, kind_of, probe_manifest
from service_account import NAME, Account

from airflow_mlops_provider.demo.process import free_ports
from airflow_mlops_provider.demo.servers import AirflowServer
from devcluster import Cluster, binaries, controlplane
from devcluster.layout import Layout
from devcluster.processes import Service, end, running_pid, start, start_again

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(os.environ.get("MLOPS_KUBECONFIG")), reason="the cluster under test is somebody else's"),
]

TASKS = ("sync", "deferrable")
#: Airflow gives the triggers of a triggerer that was silent for so long to another; 30 by default.
SILENT_SECONDS = 8


@dataclass
class Gate:
    """A server that pods ask whether they may go on."""

    address: str
    opened: set[str] = field(default_factory=set)

    def __enter__(self) -> Gate:
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path.strip("/") in gate.opened else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer((self.address, 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self._server.server_port}"


@dataclass(frozen=True)
class SecondServer:
    """Another API server of the cluster: same storage, own port, own audit log."""

    layout: Layout
    port: int
    name: str = "outage-apiserver"

    @property
    def url(self) -> str:
        return f"https://{self.layout.node_ip}:{self.port}"

    @property
    def audit_log(self) -> Path:
        return self.layout.logs / f"{self.name}-{self.port}.jsonl"

    def start(self) -> None:
        first = controlplane.api_server(self.layout, binaries.KUBERNETES.entry(self.layout.cache))
        changed = {
            "--secure-port": str(self.port),
            "--audit-log-path": str(self.audit_log),
            # The cluster's Service goes on to name the first one only.
            "--endpoint-reconciler-type": "none",
        }
        kept = [item for item in first.argv if item.partition("=")[0] not in changed]
        start(
            self.layout,
            Service(self.name, (*kept, *(f"{key}={value}" for key, value in changed.items())), first.env),
        )

    @property
    def pid(self) -> int | None:
        return running_pid(self.layout, self.name)

    def answers(self) -> bool:
        authority = ssl.create_default_context(cafile=str(self.layout.pki / "ca.crt"))
        try:
            return httpx.get(f"{self.url}/readyz", verify=authority, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGKILL)

    def remove(self) -> None:
        end([pid for pid in (self.pid,) if pid], grace_seconds=5)
        (self.layout.pids / self.name).unlink(missing_ok=True)
        (self.layout.logs / f"{self.name}.log").unlink(missing_ok=True)
        self.audit_log.unlink(missing_ok=True)


@dataclass(frozen=True)
class Stage:
    """An API server and an Airflow that may be hurt."""

    cluster: Cluster
    server: SecondServer
    airflow: AirflowServer
    account: Account
    gate: Gate
    namespace: str

    def service(self, name: str) -> Any:
        return kind_of(self.cluster.kubeconfig, "InferenceService").get(name=name, namespace=self.namespace)

    def has_pod(self, name: str) -> bool:
        selector = f"serving.kserve.io/inferenceservice={name}"
        pods = kind_of(self.cluster.kubeconfig, "Pod").get(namespace=self.namespace, label_selector=selector)
        return any(item.status.phase == "Running" for item in pods.items)

    def task(self, run_id: str, task_id: str) -> dict[str, Any]:
        return next(item for item in self.airflow.task_instances("outage", run_id) if item["task_id"] == task_id)

    def begin(self, name: str) -> str:
        """Start a run and return when both of its tasks wait for pods that are held back."""
        run_id = self.airflow.trigger("outage", conf={"name": name})
        until(lambda: all(self.has_pod(f"{name}-{task}") for task in TASKS), 240)
        until(lambda: self.task(run_id, "deferrable")["state"] == "deferred", 60)
        assert self.task(run_id, "sync")["state"] == "running"
        return run_id

    def log(self, run_id: str, task_id: str) -> str:
        return "\n".join(self.airflow.logs("outage", run_id, task_id))

    def writes_of(self, name: str) -> list[str]:
        """Return what the account really wrote to a service, as the API server recorded it."""
        account = f"system:serviceaccount:{self.account.name}:{NAME}"
        with self.server.audit_log.open() as lines:
            entries = [json.loads(line) for line in lines if account in line and f"/inferenceservices/{name}" in line]
        return [item["verb"] for item in entries if "dryRun" not in item["requestURI"]]


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def stage(cluster: Cluster, account: Account, kube: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory, namespace = tmp_path_factory.mktemp("outage"), f"outage-{uuid.uuid4().hex[:6]}"
    server = SecondServer(Layout.from_environment(), free_ports(1, cluster.node_ip)[0])
    kubeconfig = directory / "kubeconfig"
    written = yaml.safe_load(account.kubeconfig.read_text())
    written["clusters"][0]["cluster"]["server"] = server.url
    kubeconfig.write_text(yaml.safe_dump(written))
    kube.create_namespace({"metadata": {"name": namespace}})
    account.admit(namespace)
    with Gate(cluster.node_ip) as gate:
        airflow = build_airflow(directory, namespace, gate)
        try:
            server.start()
            with airflow:
                until(lambda: server.answers(), 120)
                airflow.wait_for_dag("outage")
                yield Stage(cluster, server, airflow, account, gate, namespace)
        finally:
            server.remove()
            kube.delete_namespace(namespace)


def build_airflow(directory: Path, namespace: str, gate: Gate) -> AirflowServer:
    held = f"until wget -q -O /dev/null {gate.url}/{{{{ params.name }}}}; do sleep 0.3; done"
    given = {"namespace": namespace, "model": NO_MODEL, "manifest": probe_manifest(before=held)}
    kubernetes = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(directory / "kubeconfig")}}
    dags = Path(__file__).with_name("outage_dags")
    classpath = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return AirflowServer(
        directory / "airflow",
        [{"name": "outage", "classpath": classpath, "kwargs": {"path": str(dags)}}],
        {"k8s_outage": kubernetes, "mlflow_none": {"conn_type": "mlflow", "host": "http://127.0.0.1:9"}},
        {
            "MLOPS_TEST_OUTAGE": json.dumps(given),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(SILENT_SECONDS),
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        },
    )


def assert_ended_right_and_once(stage: Stage, name: str, run_id: str, uids: dict[str, str]) -> None:
    state = stage.airflow.wait_for_run("outage", run_id, timeout_seconds=240)["state"]
    logs = {task: stage.log(run_id, task) for task in TASKS}
    assert state == "success", logs
    for task in TASKS:
        service = stage.service(f"{name}-{task}")
        result = stage.airflow.xcom("outage", run_id, task)
        assert (result["uid"], result["created"], result["changed"]) == (uids[task], True, True)
        assert service.metadata.uid == uids[task]
        assert service.metadata.generation == 1
        assert stage.writes_of(service.metadata.name) == ["patch"]
        path = f"dags/outage/dagRuns/{run_id}/taskInstances/{task}"
        assert stage.airflow.request("GET", f"{path}/tries")["total_entries"] == 1
        entries = stage.airflow.request("GET", f"{path}/xcomEntries", params={"xcom_key_pattern": "return_value"})
        assert [item["key"] for item in entries["xcom_entries"]].count("return_value") == 1
        assert logs[task].count("answered the smoke test") == 1


def uids_of(stage: Stage, name: str) -> dict[str, str]:
    return {task: stage.service(f"{name}-{task}").metadata.uid for task in TASKS}


def test_killed_triggerer_loses_no_wait(stage: Stage) -> None:
    run_id = stage.begin("trig")
    uids = uids_of(stage, "trig")
    triggerer = next(item for item in stage.airflow.components if item.name.endswith("triggerer"))
    before = triggerer.pid
    assert before is not None

    os.killpg(before, signal.SIGKILL)
    until(lambda: triggerer.exit_code() == -signal.SIGKILL, 10)
    time.sleep(SILENT_SECONDS)
    triggerer.start()
    assert stage.task(run_id, "deferrable")["state"] == "deferred"
    stage.gate.opened.add("trig")

    assert_ended_right_and_once(stage, "trig", run_id, uids)
    assert stage.log(run_id, "deferrable").count(".log.trigger.") == 2, "two triggerers wrote of it"


def test_killed_api_server_is_waited_for(stage: Stage) -> None:
    run_id = stage.begin("api")
    uids = uids_of(stage, "api")

    stage.server.kill()
    until(lambda: stage.server.pid is None, 10)
    # Both have noticed: short gaps are closed by the next try of the same request.
    until(lambda: all("going on to ask" in stage.log(run_id, task) for task in TASKS), 60)
    states = {task: stage.task(run_id, task)["state"] for task in TASKS}
    assert not stage.server.answers()
    start_again(stage.server.layout, stage.server.name)
    until(lambda: stage.server.answers(), 120)
    stage.gate.opened.add("api")

    assert states == {"sync": "running", "deferrable": "deferred"}
    assert_ended_right_and_once(stage, "api", run_id, uids)
