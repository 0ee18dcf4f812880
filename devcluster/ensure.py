"""Decides which cluster callers get: the one that ``MLOPS_KUBECONFIG`` names, or else this machine's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devcluster import binaries, cluster, external, image
from devcluster.layout import Layout


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers."""

    kubeconfig: Path
    #: The address at which pods reach servers on this machine; a server has to listen on it, or on all addresses.
    node_ip: str
    #: The runtime image that pods can use with ``imagePullPolicy: IfNotPresent``; None where none was asked for.
    image: str | None
    #: The installed KServe's version, such as ``v0.20.0``; "unknown" where only its API can be seen; None without one.
    kserve: str | None


def ensure_cluster(*, with_image: bool = False) -> Cluster:
    """Bring a cluster up, or adopt it, and return how to reach it.

    :param with_image: also build the runtime image from the checkout's sources, when they changed, and load it.
    :raises DevclusterError: with the reason in one line.
    """
    named = external.kubeconfig()
    if named is not None:
        external.verify(named)
        runtime = image.ensure(None) if with_image else external.image()
        return Cluster(named, external.host_ip(named), runtime, external.kserve_version(named))
    layout = Layout.from_environment()
    cluster.up(layout)
    runtime = image.ensure(layout) if with_image else None
    return Cluster(layout.kubeconfig, layout.node_ip, runtime, binaries.KSERVE.version)
