"""Decides which system packages the cluster needs and how they come: through apt-get, as root, only when missing.

No daemon that a package may start is used or stopped: the cluster runs its own processes on its own ports and
directories.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from devcluster.errors import DevclusterError, MissingRequirementError
from devcluster.progress import say

#: ``sbin`` is not on everybody's PATH, not even on every root's.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"])
_CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_BUSYBOX = Path("/bin/busybox")

#: Before a long-running command: it does not go on when this program is killed.
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")

#: Debian package → the programs the cluster takes from it.
CLUSTER_PACKAGES = {
    "etcd-server": ("etcd",),
    "containerd": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "runc": ("runc",),
    "iproute2": ("ip",),
    "mount": ("mount", "umount"),
    "nftables": ("nft",),
    "openssl": ("openssl",),
    "util-linux": ("setpriv", "unshare"),
}
IMAGE_PACKAGES = {"debootstrap": ("debootstrap",), "tar": ("tar",)}


def find_program(name: str) -> str | None:
    """Find a program on PATH or where Debian puts system programs."""
    return shutil.which(name, path=SEARCH_PATH)


def require_program(name: str) -> str:
    """Find a program that :func:`install_missing` has made sure of."""
    found = find_program(name)
    if found is None:
        raise MissingRequirementError(f"{name} is not installed")
    return found


def cni_directory() -> Path | None:
    """Find the CNI plugins."""
    return next((d for d in _CNI_DIRECTORIES if (d / "bridge").exists() and (d / "host-local").exists()), None)


def static_busybox() -> Path | None:
    """Find a busybox that runs in an image which holds nothing else."""
    if not _BUSYBOX.exists():
        return None
    with _BUSYBOX.open("rb") as file:
        return None if b"/ld-linux" in file.read(8192) else _BUSYBOX


def missing_packages(wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Name the packages of ``wanted`` whose programs are not there."""
    return [package for package, programs in wanted.items() if not all(map(find_program, programs))]


def missing_cluster_packages() -> list[str]:
    """Name the packages that have to be installed before the cluster can start."""
    missing = missing_packages(CLUSTER_PACKAGES)
    if cni_directory() is None:
        missing.append("containernetworking-plugins")
    if static_busybox() is None:
        missing.append("busybox-static")
    return missing


def require_root() -> None:
    """Stop anybody who could neither mount nor make an interface."""
    if os.geteuid() != 0:
        raise MissingRequirementError(
            "the dev cluster needs root (mounts, cgroups, a bridge); run it with sudo, or set MLOPS_KUBECONFIG"
        )


def install(packages: list[str]) -> None:
    """Install packages with apt-get; nothing happens when the list is empty."""
    if not packages:
        return
    names = " ".join(packages)
    if find_program("apt-get") is None:
        raise MissingRequirementError(
            f"apt-get is missing, so {names} cannot be installed: the dev cluster needs Debian or Ubuntu"
        )
    require_root()
    say(f"installing system packages: {names}")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # A third-party source that does not answer fails the update, while Debian's own lists are fine: install decides.
    subprocess.run([*apt, "update"], env=env, capture_output=True, check=False)
    command = [*apt, "install", "--no-install-recommends", *packages]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise DevclusterError(f"apt-get cannot install {names}: {' '.join(last)}")
