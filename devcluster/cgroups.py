"""Decides where the pods' cgroups lie: below one cgroup of this instance, in every cgroup v1 hierarchy or in the
v2 tree.

That makes "every process of every pod" a question the kernel answers, even when containerd and kubelet are gone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from devcluster.layout import Layout

_MOUNT = Path("/sys/fs/cgroup")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def _hierarchies() -> list[Path]:
    if (_MOUNT / "cgroup.controllers").exists():
        return [_MOUNT]
    return [d for d in sorted(_MOUNT.iterdir()) if (d / "cgroup.procs").exists() and not d.is_symlink()]


def _ours(layout: Layout) -> list[Path]:
    return [d for h in _hierarchies() if (d := h / layout.name).is_dir()]


def create(layout: Layout) -> None:
    """Make the parent cgroup that kubelet is told to stay in."""
    for hierarchy in _hierarchies():
        group = hierarchy / layout.name
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # v1 does not inherit these, and refuses processes without them
            if (group / name).exists() and (hierarchy / "cgroup.clone_children").exists():
                (group / name).write_text((hierarchy / name).read_text())
        if (hierarchy / "cgroup.subtree_control").exists():
            _enable_controllers(hierarchy)


def _enable_controllers(hierarchy: Path) -> None:
    offered = (hierarchy / "cgroup.controllers").read_text().split()
    enabled = (hierarchy / "cgroup.subtree_control").read_text().split()
    for controller in _V2_CONTROLLERS:
        if controller in offered and controller not in enabled:
            (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")


def pids(layout: Layout) -> list[int]:
    """List every process in this instance's cgroups."""
    found: set[int] = set()
    for group in _ours(layout):
        for directory, _, _ in os.walk(group):
            try:
                found.update(map(int, (Path(directory) / "cgroup.procs").read_text().split()))
            except (FileNotFoundError, OSError):
                continue  # a cgroup may go while it is read
    return sorted(found)


def remove(layout: Layout, *, timeout_seconds: float = 5.0) -> bool:
    """Remove the (empty) cgroups; the kernel may need a moment after the last process has gone."""
    deadline = time.monotonic() + timeout_seconds
    while groups := _ours(layout):
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    continue
        if time.monotonic() > deadline:
            return not _ours(layout)
        time.sleep(0.05)
    return True
