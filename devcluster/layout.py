"""Decides where everything of the dev cluster lies: directories, ports, addresses, names. No I/O.

One machine has one cluster per *instance* number, whoever starts it and from whichever checkout: files, ports,
interfaces and cgroups are the machine's, so the run directory is named by the instance and never by the user or
the cache. ``MLOPS_DEVCLUSTER_INSTANCE`` (0 to 9, normally unset) exists for tests which have to take a cluster
down.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from devcluster.errors import DevclusterError

INSTANCE_VARIABLE = "MLOPS_DEVCLUSTER_INSTANCE"
NODE_NAME = "mlops-node"
#: Instance n owns the ports 26400 + 100 n …: below the ephemeral range, away from Kubernetes' own defaults.
_FIRST_PORT = 26400


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Name the directory for everything that is expensive to make again; ``down`` never touches it."""
    env = os.environ if environ is None else environ
    if env.get("MLOPS_CACHE"):
        return Path(env["MLOPS_CACHE"]).expanduser().absolute()
    base = Path(env["XDG_CACHE_HOME"]) if env.get("XDG_CACHE_HOME") else Path.home() / ".cache"
    return base / "airflow-mlops-provider"


class ControllerPorts(NamedTuple):
    """The ports of one of KServe's controllers."""

    webhook: int
    health: int
    metrics: int


@dataclass(frozen=True)
class Layout:
    """Every path, port and name of one instance."""

    instance: int
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Layout:
        """Read the instance and the cache from the environment."""
        env = os.environ if environ is None else environ
        text = env.get(INSTANCE_VARIABLE) or "0"
        if text not in {str(n) for n in range(10)}:
            raise DevclusterError(f"{INSTANCE_VARIABLE} is {text!r}; use a number from 0 to 9")
        return cls(instance=int(text), cache=cache_dir(env))

    @property
    def name(self) -> str:
        """The name that run directory, CNI network and cgroup share."""
        return f"mlops-devcluster-{self.instance}"

    @property
    def run_dir(self) -> Path:
        """Everything the running cluster writes; short, because unix socket paths end at 108 bytes."""
        return Path("/var/lib") / self.name

    @property
    def lock_file(self) -> Path:
        return Path("/run") / f"{self.name}.lock"

    @property
    def kubeconfig(self) -> Path:
        return self.run_dir / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.run_dir / "log"

    @property
    def pids(self) -> Path:
        return self.run_dir / "pid"

    @property
    def pki(self) -> Path:
        return self.run_dir / "pki"

    @property
    def containerd_socket(self) -> Path:
        return self.run_dir / "containerd.sock"

    @property
    def bridge(self) -> str:
        return f"mlopsbr{self.instance}"

    @property
    def pod_subnet(self) -> str:
        return f"10.213.{self.instance}.0/24"

    @property
    def node_ip(self) -> str:
        """The bridge's own address: the node, the API server and this host, as pods see them."""
        return f"10.213.{self.instance}.1"

    @property
    def service_subnet(self) -> str:
        return f"10.214.{self.instance}.0/24"

    @property
    def kubernetes_service_ip(self) -> str:
        return f"10.214.{self.instance}.1"

    def port(self, offset: int) -> int:
        return _FIRST_PORT + 100 * self.instance + offset

    @property
    def api_port(self) -> int:
        return self.port(43)

    @property
    def kubelet_port(self) -> int:
        return self.port(50)

    @property
    def kubelet_health_port(self) -> int:
        return self.port(48)

    @property
    def controller_manager_port(self) -> int:
        return self.port(57)

    @property
    def scheduler_port(self) -> int:
        return self.port(59)

    @property
    def proxy_ports(self) -> tuple[int, int]:
        """kube-proxy's ports for health and metrics."""
        return self.port(56), self.port(49)

    @property
    def has_proxy(self) -> bool:
        """Say whether cluster IPs work: kube-proxy's nftables table has one name, so only one instance can have it."""
        return self.instance == 0

    @property
    def kserve_ports(self) -> ControllerPorts:
        return ControllerPorts(self.port(60), self.port(61), self.port(62))

    @property
    def llmisvc_ports(self) -> ControllerPorts:
        return ControllerPorts(self.port(63), self.port(64), self.port(65))

    @property
    def etcd_port(self) -> int:
        return self.port(79)

    @property
    def etcd_peer_port(self) -> int:
        return self.port(80)

    @property
    def ports(self) -> tuple[int, ...]:
        return (
            self.api_port, self.kubelet_port, self.kubelet_health_port, self.controller_manager_port,
            self.scheduler_port, self.etcd_port, self.etcd_peer_port, *self.proxy_ports,
            *self.kserve_ports, *self.llmisvc_ports,
        )  # fmt: skip

    @property
    def api_url(self) -> str:
        return f"https://{self.node_ip}:{self.api_port}"
