"""Decides what ``up`` and ``down`` mean: adopt what is healthy, replace what is not, leave nothing behind.

``up`` starts every cluster from nothing, so a broken one is taken down and made again rather than repaired.
``down`` does not ask anybody to shut pods down: it kills kubelet first (nothing restarts), then every process in
the instance's cgroups, then containerd, its shims and the control plane. A half-dead cluster ends the same way as
a healthy one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster import (
    binaries,
    certificates,
    cgroups,
    containers,
    controlplane,
    kserve,
    network,
    node,
    packages,
    processes,
    proxy,
)
from devcluster.api import ApiClient, ApiError
from devcluster.errors import DevclusterError
from devcluster.layout import NODE_NAME, Layout
from devcluster.progress import say

#: Raise it when a change of this package needs running clusters to be replaced.
_GENERATION = 3
_SERVICES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "containerd", "kubelet")
_ADOPTION_SECONDS = 30.0
_START_SECONDS = 180.0


def services(layout: Layout) -> tuple[str, ...]:
    """Name the processes of a cluster that is up."""
    return (*_SERVICES, *(("kube-proxy",) if layout.has_proxy else ()), *kserve.SERVICES)


def up(layout: Layout) -> None:
    """Bring the cluster up, or adopt it; returns when its node is ready."""
    packages.require_root()
    with _locked(layout):
        if adopt(layout):
            say(f"the cluster is up already: {layout.api_url}")
            return
        packages.install(packages.missing_cluster_packages())
        built = binaries.ensure(layout.cache)
        if layout.run_dir.exists() or processes.find_pids(layout):
            say("replacing a cluster that is stopped, broken or outdated")
            _remove(layout)
        _start(layout, built)


def adopt(layout: Layout) -> bool:
    """Say whether a healthy cluster of this very kind runs; a busy machine gets some time to show it."""
    deadline = time.monotonic() + _ADOPTION_SECONDS
    while _alive(layout):
        if healthy(layout):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(1)
    return False


def is_up(layout: Layout) -> bool:
    """Say whether a healthy cluster of this kind runs, without waiting for one."""
    return _alive(layout) and healthy(layout)


def _alive(layout: Layout) -> bool:
    try:
        record = json.loads((layout.run_dir / "cluster.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return record == _record() and all(processes.running_pid(layout, name) for name in services(layout))


def _record() -> dict[str, object]:
    return {"generation": _GENERATION, "kubernetes": binaries.KUBERNETES.key(), "kserve": binaries.KSERVE.key()}


def healthy(layout: Layout) -> bool:
    """Ask the API server for its own health, the node's, and the account that pods run as; ask KServe for its own."""
    try:
        api = ApiClient(layout)
        api.text("/readyz")
        conditions = api.json(f"/api/v1/nodes/{NODE_NAME}")["status"].get("conditions", [])
        api.json("/api/v1/namespaces/default/serviceaccounts/default")
        api.json(kserve.CONFIG_MAP_PATH)
    except (ApiError, OSError):
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions) and kserve.healthy(layout)


def _start(layout: Layout, built: binaries.Binaries) -> None:
    network.refuse_used_ports(layout)
    layout.run_dir.mkdir(parents=True)
    layout.run_dir.chmod(0o711)
    try:
        network.remember_sysctls(layout)
        network.create(layout)
        cgroups.create(layout)
        certificates.issue_all(layout)
        processes.start(layout, controlplane.etcd(layout))
        processes.start(layout, containers.containerd(layout))
        processes.start(layout, controlplane.api_server(layout, built.kubernetes))
        _wait(layout, "containerd", lambda: bool(containers.ctr(layout, "version")))
        containers.load_base_images(layout)
        _wait(layout, "the API server", lambda: ApiClient(layout).text("/readyz") == "ok")
        say("API server is ready")
        processes.start(layout, controlplane.controller_manager(layout, built.kubernetes))
        processes.start(layout, controlplane.scheduler(layout, built.kubernetes))
        processes.start(layout, node.kubelet(layout, built.kubernetes))
        if layout.has_proxy:
            processes.start(layout, proxy.kube_proxy(layout, built.kubernetes))
        kserve.install(layout, built.kserve)
        say("KServe is installed")
        for controller in kserve.controllers(layout, built.kserve):
            processes.start(layout, controller)
        _wait(layout, "the node or KServe", lambda: healthy(layout))
        (layout.run_dir / "cluster.json").write_text(json.dumps(_record()))
        say("the node and KServe are ready")
    except BaseException:
        say(f"the start failed; logs stay in {layout.logs} until the next up or down")
        _end_processes(layout)
        raise


def _wait(layout: Layout, what: str, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    reason = "not ready"
    while time.monotonic() < deadline:
        for pid_file in layout.pids.iterdir():
            if processes.running_pid(layout, pid_file.name) is None:
                raise DevclusterError(f"{pid_file.name} ended: {_last_line(layout.logs / f'{pid_file.name}.log')}")
        try:
            if check():
                return
        except (ApiError, DevclusterError, OSError) as error:
            reason = str(error)
        time.sleep(0.2)
    raise DevclusterError(f"{what} is not ready after {_START_SECONDS:.0f} s ({reason}); see {layout.logs}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1]} ({log})" if lines else f"its log is empty ({log})"


def down(layout: Layout) -> bool:
    """Take the cluster down and remove all but the cache; return whether there was anything."""
    traces = (layout.run_dir, layout.lock_file, Path("/sys/class/net", layout.bridge))
    found = any(path.exists() for path in traces) or bool(processes.find_pids(layout))
    if found:
        packages.require_root()
        with _locked(layout):
            _remove(layout)
    return found


def _end_processes(layout: Layout) -> None:
    processes.end(processes.find_pids(layout, ("kubelet",)), grace_seconds=0)
    processes.end(cgroups.pids(layout), grace_seconds=0)
    processes.end(processes.find_pids(layout, ("containerd", "containerd-shim-runc-v2", "runc")), grace_seconds=0)
    processes.end(cgroups.pids(layout), grace_seconds=0)  # a container that was being created meanwhile
    processes.end(processes.find_pids(layout), grace_seconds=2)


def _remove(layout: Layout) -> None:
    _end_processes(layout)
    containers.remove_shim_sockets(layout)
    proxy.remove_rules(layout)
    network.remove(layout)
    if not cgroups.remove(layout):
        say(f"cgroup {layout.name} cannot be removed: the kernel says it is in use")
    node.remove_outside_files(layout, alone=not processes.find_programs("kubelet"))
    network.restore_sysctls(layout)
    network.remove_tree(layout.run_dir)


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Hold the instance's lock: two ``up`` at once give one cluster. The lock file goes with the cluster."""
    while True:
        with layout.lock_file.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting: another up or down is at work")
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                current = layout.lock_file.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                current = False
            if not current:
                continue  # the holder removed the file that we waited for; take the new one
            try:
                yield
            finally:
                if not layout.run_dir.exists():
                    layout.lock_file.unlink()
            return
