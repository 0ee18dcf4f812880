"""The development cluster itself: adopted, never doubled, replaced when broken, and a Kubernetes that really runs pods.

Tests that break or end a cluster use an instance of their own, so the one that other tests share stays up.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devcluster import Cluster, ensure_cluster, external
from devcluster.api import ApiClient, ApiError
from devcluster.cluster import services
from devcluster.containers import BUSYBOX_IMAGE
from devcluster.layout import Layout
from devcluster.processes import find_pids, running_pid, start_again

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(os.environ.get("MLOPS_KUBECONFIG")), reason="the cluster under test is somebody else's"),
]


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout.from_environment()


@pytest.fixture
def api(cluster: Cluster, layout: Layout) -> ApiClient:
    return ApiClient(layout)


@pytest.fixture
def namespace(api: ApiClient) -> Iterator[str]:
    name = f"devcluster-{uuid.uuid4().hex[:8]}"
    yield from _namespace(api, name, {})


def _namespace(api: ApiClient, name: str, labels: dict[str, str]) -> Iterator[str]:
    api.json("/api/v1/namespaces", method="POST", body={"metadata": {"name": name, "labels": labels}})
    _until(lambda: _exists(api, f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    api.json(f"/api/v1/namespaces/{name}", method="DELETE")


def _exists(api: ApiClient, path: str) -> bool:
    try:
        api.json(path)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def _until(check: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def _pod(name: str, script: str, **container: object) -> dict[str, Any]:
    spec = {
        "name": "main",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        **container,
    }
    return {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [spec]}}


def _run_pod(api: ApiClient, namespace: str, pod: dict[str, Any]) -> str:
    """Create a pod, wait for its end, and return its log."""
    pods = f"/api/v1/namespaces/{namespace}/pods"
    path = f"{pods}/{pod['metadata']['name']}"
    api.json(pods, method="POST", body=pod)
    _until(lambda: api.json(path)["status"]["phase"] in {"Succeeded", "Failed"})
    log = api.text(f"{path}/log")
    assert api.json(path)["status"]["phase"] == "Succeeded", log
    return log


def _devcluster(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devcluster", *arguments], cwd=ROOT, env={**os.environ, **environ},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def _pids(layout: Layout) -> dict[str, int | None]:
    return {name: running_pid(layout, name) for name in services(layout)}


def test_second_up_adopts_the_same_processes_within_seconds(cluster: Cluster, layout: Layout) -> None:
    before, began = _pids(layout), time.monotonic()
    done = _devcluster("up")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{cluster.kubeconfig}\n"
    assert time.monotonic() - began < 15  # 1 s on an idle machine
    assert _pids(layout) == before
    assert None not in before.values()


def test_status_of_a_healthy_cluster_is_zero(cluster: Cluster) -> None:
    done = _devcluster("status")
    assert done.returncode == 0, done.stderr
    assert f"Ready at {cluster.node_ip}" in done.stdout


def test_pod_completes_and_its_log_is_readable(api: ApiClient, namespace: str) -> None:
    assert _run_pod(api, namespace, _pod("hello", "echo hello")) == "hello\n"


def test_pod_reaches_a_server_on_the_host(api: ApiClient, namespace: str, cluster: Cluster) -> None:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"from the host")

    with http.server.ThreadingHTTPServer((cluster.node_ip, 0), Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{cluster.node_ip}:{server.server_address[1]}/"
        try:
            assert _run_pod(api, namespace, _pod("fetch", f"timeout 10 wget -q -O - {url}")) == "from the host"
        finally:
            server.shutdown()


def test_service_reaches_its_pod_from_a_pod_and_from_the_host(api: ApiClient, namespace: str) -> None:
    pods, services = (f"/api/v1/namespaces/{namespace}/{kind}" for kind in ("pods", "services"))
    web = _pod("web", "mkdir /w && echo served > /w/index.html && exec httpd -f -p 8080 -h /w")
    web["metadata"]["labels"] = {"app": "web"}
    api.json(pods, method="POST", body=web)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}
    service = api.json(services, method="POST", body={"metadata": {"name": "web"}, "spec": spec})
    fetch = f"until timeout 2 wget -q -O - http://{service['spec']['clusterIP']}/; do sleep 0.2; done"
    assert _run_pod(api, namespace, _pod("client", f"{{ {fetch}; }} 2>/dev/null")) == "served\n"
    with urllib.request.urlopen(f"http://{service['spec']['clusterIP']}/", timeout=10) as answer:
        assert answer.read() == b"served\n"


def test_services_have_a_route_of_their_own(cluster: Cluster, layout: Layout) -> None:
    command = ["ip", "route", "get", layout.kubernetes_service_ip]
    assert f"dev {layout.bridge}" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_pod_reaches_the_api_server_as_its_service_account(api: ApiClient, namespace: str) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    request = f'wget -q -O - --no-check-certificate --header "Authorization: Bearer $(cat {token}/token)"'
    body = f'timeout 10 {request} "https://$KUBERNETES_SERVICE_HOST/version"; test -s {token}/ca.crt'
    assert '"minor": "34"' in _run_pod(api, namespace, _pod("version", body))


def test_pod_start_raises_no_warning_event(api: ApiClient, namespace: str) -> None:
    _run_pod(api, namespace, _pod("quiet", "true"))
    events = api.json(f"/api/v1/namespaces/{namespace}/events")["items"]
    assert [e["message"] for e in events if e["type"] == "Warning"] == []


def test_restricted_namespace_refuses_a_privileged_pod(api: ApiClient) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in _namespace(api, f"devcluster-{uuid.uuid4().hex[:8]}", labels):
        pod = _pod("privileged", "true", securityContext={"privileged": True})
        with pytest.raises(ApiError, match="violates PodSecurity") as caught:
            api.json(f"/api/v1/namespaces/{name}/pods", method="POST", body=pod)
        assert caught.value.status == 403


def test_runtime_image_runs_in_a_restricted_namespace_on_a_read_only_root(api: ApiClient) -> None:
    image = ensure_cluster(with_image=True).image
    imports = "import mlops_runtime, mlflow, pandas, pyarrow, sklearn, skops"
    context = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = _pod("runtime", f"id -u; python3 -c '{imports}'; command -v mlops-runtime", image=image)
    pod["spec"]["containers"][0] |= {"imagePullPolicy": "IfNotPresent", "securityContext": context}
    pod["spec"]["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in _namespace(api, f"devcluster-{uuid.uuid4().hex[:8]}", labels):
        assert _run_pod(api, name, pod).splitlines() == ["65532", "/usr/local/bin/mlops-runtime"]


def test_image_that_has_not_changed_is_ready_within_seconds(cluster: Cluster) -> None:
    ensure_cluster(with_image=True)
    began = time.monotonic()
    done = _devcluster("image")
    assert done.stdout == f"{ensure_cluster(with_image=True).image}\n", done.stderr
    assert "building" not in done.stderr
    assert time.monotonic() - began < 20  # 1 s on an idle machine


def test_audit_log_records_pod_creation_without_its_body(api: ApiClient, namespace: str, layout: Layout) -> None:
    _run_pod(api, namespace, _pod("audited", "true"))
    lines = (layout.logs / "audit.jsonl").read_text().splitlines()
    entries = [e for line in lines if namespace in line and (e := json.loads(line))["verb"] == "create"]
    entries = [e for e in entries if e["objectRef"]["resource"] == "pods" and "subresource" not in e["objectRef"]]
    assert [e["level"] for e in entries] == ["Metadata"]
    assert "requestObject" not in entries[0]


def test_api_server_refuses_strangers(cluster: Cluster, layout: Layout) -> None:
    api = ApiClient(layout)
    review = {"spec": {"user": "stranger", "resourceAttributes": {"verb": "list", "resource": "pods"}}}
    review |= {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    answer = api.json("/apis/authorization.k8s.io/v1/subjectaccessreviews", method="POST", body=review)
    assert answer["status"]["allowed"] is False


@pytest.fixture
def own_instance(cluster: Cluster) -> Iterator[Layout]:
    """An instance of this test's own; whatever the test did to it, it is gone afterwards."""
    environ = {"MLOPS_DEVCLUSTER_INSTANCE": "7"}
    layout = Layout.from_environment({**os.environ, **environ})
    _devcluster("down", **environ)
    yield layout
    assert _devcluster("down", **environ).returncode == 0


def test_life_of_a_cluster_from_two_ups_at_once_to_nothing_left(own_instance: Layout) -> None:
    layout, environ = own_instance, {"MLOPS_DEVCLUSTER_INSTANCE": "7"}
    with ThreadPoolExecutor() as pool:
        ups = list(pool.map(lambda _: _devcluster("up", **environ), range(2)))
    assert [up.returncode for up in ups] == [0, 0], ups
    assert ["is up already" in up.stderr for up in ups].count(True) == 1
    first = _pids(layout)
    assert sorted(find_pids(layout)) == sorted(pid for pid in first.values() if pid)

    os.kill(first["kserve-manager"] or 0, 9)
    without = _devcluster("status", **environ)
    assert re.search(r"^kserve-manager +not running$", without.stdout, re.MULTILINE), without.stdout
    assert without.returncode == 1
    start_again(layout, "kserve-manager")
    _until(lambda: _devcluster("status", **environ).returncode == 0)

    api = ApiClient(layout)
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"
    api.json(definition, method="DELETE")
    _until(lambda: external.kserve_version(layout.kubeconfig) is None)
    api.json("/api/v1/namespaces/default/pods", method="POST", body=_pod("long", "sleep 100000"))
    _until(lambda: api.json("/api/v1/namespaces/default/pods/long")["status"]["phase"] == "Running")
    os.kill(first["kube-apiserver"] or 0, 9)
    (layout.pids / "kubelet").write_text(json.dumps({"pid": os.getpid(), "start": "another boot/1"}))
    broken = _devcluster("status", **environ)
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr

    again = _devcluster("up", **environ)
    assert again.returncode == 0, again.stderr
    assert "replacing" in again.stderr
    assert not set(_pids(layout).values()) & set(first.values())
    assert ApiClient(layout).json("/api/v1/namespaces/default/pods")["items"] == []

    assert _devcluster("down", **environ).returncode == 0
    assert _leftovers(layout) == []
    assert _devcluster("down", **environ).returncode == 0
    assert _devcluster("kubeconfig", **environ).returncode == 1
    assert None not in _pids(Layout.from_environment()).values()


def _leftovers(layout: Layout) -> list[str]:
    paths = [
        layout.run_dir,
        layout.lock_file,
        Path("/sys/class/net", layout.bridge),
        Path("/sys/fs/cgroup/memory", layout.name),
    ]
    found = [str(p) for p in [*paths, Path("/sys/fs/cgroup", layout.name)] if p.exists()]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if layout.name in line]
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{layout.run_dir}/".encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def test_foreign_kubeconfig_is_verified_used_and_never_taken_down(cluster: Cluster, layout: Layout) -> None:
    environ = {"MLOPS_KUBECONFIG": str(cluster.kubeconfig)}
    assert _devcluster("up", **environ).stdout == f"{cluster.kubeconfig}\n"
    down = _devcluster("down", **environ)
    assert (down.returncode, "not ours" in down.stderr) == (0, True)
    assert None not in _pids(layout).values()
    refused = _devcluster("image", **environ)
    assert (refused.returncode, "set MLOPS_IMAGE" in refused.stderr) == (1, True)
    named = _devcluster("image", **environ, MLOPS_IMAGE="registry.example/runtime:1")
    assert named.stdout == "registry.example/runtime:1\n"


def test_foreign_kubeconfig_that_does_not_answer_is_one_line(tmp_path: Path, cluster: Cluster) -> None:
    dead = tmp_path / "kubeconfig"
    text = cluster.kubeconfig.read_text().replace(f"{cluster.node_ip}:", "127.0.0.1:1/")
    dead.write_text(text)
    for path in (dead, tmp_path / "missing"):
        done = _devcluster("up", MLOPS_KUBECONFIG=str(path))
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("lack", "line"),
    [
        (
            "which = shutil.which; shutil.which = lambda n, *a, **k: None if n.endswith('go') else which(n, *a, **k)",
            "Go 1.25 or newer is needed",
        ),
        ("os.geteuid = lambda: 1000", "needs root"),
    ],
)
def test_what_is_missing_is_one_line_and_exit_code_two(lack: str, line: str, tmp_path: Path) -> None:
    script = (
        f"import os, shutil, sys; {lack}\nfrom devcluster.__main__ import main\nsys.argv[1:] = ['up']\nsys.exit(main())"
    )
    environ = {**os.environ, "MLOPS_DEVCLUSTER_INSTANCE": "8", "MLOPS_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert [line in text for text in done.stderr.strip().splitlines()] == [True]
    assert not Layout.from_environment(environ).lock_file.exists()
