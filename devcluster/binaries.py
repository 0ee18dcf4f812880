"""Decides which programs the cluster builds from Go modules: Kubernetes and KServe. How, is ``gobuild``'s."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devcluster.gobuild import GoModule
from devcluster.packages import find_program

_HERE = Path(__file__).parent

KUBERNETES = GoModule(
    title="Kubernetes",
    directory=_HERE / "kubernetes",
    requires="k8s.io/kubernetes",
    commands=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"),
    minimum_go=(1, 24),
    minutes=10,
    version_package="k8s.io/component-base/version",
)
KSERVE = GoModule(
    title="KServe",
    directory=_HERE / "kserve",
    requires="github.com/kserve/kserve",
    commands=("manager", "llmisvc"),
    minimum_go=(1, 25),
    minutes=7,
    manifests=(
        "config/crd/full",
        "config/crd/full/clusterstoragecontainer",
        "config/crd/full/llmisvc",
        "config/llmisvcconfig",
        "config/rbac",
        "config/rbac/llmisvc",
        "config/webhook",
        "config/webhook/llmisvc",
    ),
)


@dataclass(frozen=True)
class Binaries:
    """Directories of what was built."""

    kubernetes: Path
    kserve: Path


def ensure(cache: Path) -> Binaries:
    """Return where the programs are, built first if need be (about 17 minutes on 2 cores).

    :raises MissingRequirementError: without a Go that is new enough.
    """
    for module in (KSERVE, KUBERNETES):  # the newer Go first: better said before ten minutes of building than after
        if not module.entry(cache).is_dir():
            module.require_go()
    return Binaries(KUBERNETES.ensure(cache), KSERVE.ensure(cache))


def kubectl(cache: Path) -> str | None:
    """Find a kubectl without building one: the cache's, or the system's."""
    cached = KUBERNETES.entry(cache) / "kubectl"
    return str(cached) if cached.exists() else find_program("kubectl")
