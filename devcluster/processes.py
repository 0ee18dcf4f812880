"""Decides what "our process" means: a pid *and* its start time, so that a pid file left by a killed or rebooted machine
never points at a stranger. Starts detached processes with a log each, finds strays, ends them. Reads /proc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.layout import Layout
from devcluster.packages import SEARCH_PATH

_PROGRAMS = {
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "containerd", "containerd-shim-runc-v2", "runc", "manager", "llmisvc",
}  # fmt: skip
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Service:
    """One long-running process of the cluster."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def start_time(pid: int) -> str | None:
    """Read when a process began (boot and clock ticks since), or None when there is no live process of that pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return None if state in "ZX" else f"{boot}/{fields[18]}"


def start(layout: Layout, service: Service) -> int:
    """Start a service detached from this terminal and remember it; return its pid."""
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.pids.mkdir(parents=True, exist_ok=True)
    with (layout.logs / f"{service.name}.log").open("ab") as log:
        process = subprocess.Popen(
            service.argv, env={"PATH": SEARCH_PATH, "HOME": "/root", **service.env}, cwd="/",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    how = {"argv": service.argv, "env": dict(service.env)}
    record = {"pid": process.pid, "start": start_time(process.pid), **how}
    (layout.pids / service.name).write_text(json.dumps(record))
    process.returncode = 0  # it is meant to outlive us: no "still running" warning from Popen's destructor
    return process.pid


def start_again(layout: Layout, name: str) -> int:
    """Start a service that was killed as it was started before, so that a test can put an end to its outage.

    It waits for the killed one to be gone: that one's ports would end the new one at once.
    """
    while running_pid(layout, name) is not None:
        time.sleep(_POLL_SECONDS)
    record = json.loads((layout.pids / name).read_text())
    return start(layout, Service(name, tuple(record["argv"]), record["env"]))


def running_pid(layout: Layout, name: str) -> int | None:
    """Return the pid of a service that is alive and is really ours."""
    try:
        record = json.loads((layout.pids / name).read_text())
        pid, began = int(record["pid"]), record["start"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return pid if began is not None and start_time(pid) == began else None


def find_pids(layout: Layout, programs: Iterable[str] = _PROGRAMS) -> list[int]:
    """Find processes that run one of our programs on this instance's run directory, pid file or not."""
    wanted, marker, found = set(programs), f"{layout.run_dir}/".encode(), []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.path.basename(argv[0]).decode(errors="replace") in wanted and any(marker in a for a in argv):
            found.append(int(entry.name))
    return found


def end(pids: Iterable[int], *, grace_seconds: float) -> None:
    """Ask processes to end, wait, then kill what is left; a pid that is reused meanwhile is left alone."""
    targets = {pid: began for pid in pids if (began := start_time(pid)) is not None}
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        if seconds <= 0:
            continue
        for pid in list(targets):
            _signal(pid, number)
        deadline = time.monotonic() + seconds
        while targets and time.monotonic() < deadline:
            targets = {pid: began for pid, began in targets.items() if start_time(pid) == began}
            if targets:
                time.sleep(_POLL_SECONDS)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, os.WNOHANG)  # when this very process started it: otherwise it stays behind as a zombie
    except ChildProcessError:
        return


def find_programs(name: str) -> list[int]:
    """Find every process of this machine that runs a program of that name, ours or not."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "comm").read_text().strip() == name[:15] and start_time(int(entry.name)):
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
