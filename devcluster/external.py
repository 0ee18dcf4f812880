"""Decides what happens when ``MLOPS_KUBECONFIG`` names a cluster: it has to answer, and is left alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from devcluster import binaries, network
from devcluster.errors import DevclusterError, MissingRequirementError
from devcluster.layout import cache_dir

VARIABLE = "MLOPS_KUBECONFIG"
IMAGE_VARIABLE = "MLOPS_IMAGE"
NODE_IP_VARIABLE = "MLOPS_NODE_IP"
_CONTROLLERS = "/apis/apps/v1/deployments?labelSelector=control-plane%3Dkserve-controller-manager"
_TIMEOUT_SECONDS = 20


def kubeconfig() -> Path | None:
    """Return the kubeconfig that the user named, if any."""
    value = os.environ.get(VARIABLE)
    return Path(value).expanduser().absolute() if value else None


def image() -> str | None:
    """Return the runtime image that the user named: it has to be where that cluster can pull it."""
    return os.environ.get(IMAGE_VARIABLE) or None


def verify(path: Path) -> None:
    """Ask the cluster whether it is ready.

    :raises DevclusterError: when it does not answer, or answers no.
    """
    if not path.is_file():
        raise DevclusterError(f"{VARIABLE} names {path}, which is not a file")
    _kubectl(path, "get", "--raw", "/readyz")


def host_ip(path: Path) -> str:
    """Find the address at which that cluster's pods reach servers on this machine, as far as that can be known."""
    if os.environ.get(NODE_IP_VARIABLE):
        return os.environ[NODE_IP_VARIABLE]
    server = urlsplit(_kubectl(path, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"))
    return network.host_address_towards(server.hostname or "127.0.0.1", server.port or 443)


def kserve_version(path: Path) -> str | None:
    """Read that cluster's KServe version off its controller's image: "unknown" if we may not, None without KServe."""
    groups = json.loads(_kubectl(path, "get", "--raw", "/apis"))["groups"]
    versions = (version["groupVersion"] for group in groups for version in group["versions"])
    if "serving.kserve.io/v1beta1" not in versions:
        return None
    try:
        deployments = _kubectl(path, "get", "--raw", _CONTROLLERS)
    except DevclusterError:
        return "unknown"
    tag = re.search(r'"image":"[^"]*kserve-controller:(v?\d[\w.-]*)', deployments)
    return tag[1] if tag else "unknown"


def _kubectl(path: Path, *arguments: str) -> str:
    program = binaries.kubectl(cache_dir())
    if program is None:
        raise MissingRequirementError(
            f"kubectl is needed to ask the cluster of {VARIABLE}; install it and put it on PATH"
        )
    command = [program, f"--kubeconfig={path}", "--request-timeout=10s", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DevclusterError(
            f"the cluster of {VARIABLE} ({path}) did not answer within {_TIMEOUT_SECONDS} s"
        ) from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise DevclusterError(f"the cluster of {VARIABLE} ({path}) does not answer: {' '.join(last)}")
    return done.stdout
