"""Decides how kubelet runs, and clears what kubelet keeps at paths that it cannot be told to change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from devcluster.layout import NODE_NAME, Layout
from devcluster.network import remove_empty
from devcluster.processes import Service

#: Fixed in kubelet's source (legacyContainerLogsDir; the device plugin API's KubeletSocket).
_CONTAINER_LOGS = Path("/var/log/containers")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
_NO_NAME_SERVER = "127.0.0.1"


def _configuration(layout: Layout) -> dict[str, object]:
    run = str(layout.run_dir)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_ip,
        "port": layout.kubelet_port,
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": layout.kubelet_health_port,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": f"{layout.pki}/ca.crt"}},
        "tlsCertFile": f"{layout.pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{layout.pki}/kubelet-server.key",
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Settings it may not write (in a container, say) are then a warning instead of the end.
        "featureGates": {"KubeletInUserNamespace": True},
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        # There is no cluster DNS: a lookup in a pod is refused at once instead of waiting for a server out of reach.
        "clusterDNS": [_NO_NAME_SERVER],
        "clusterDomain": "cluster.local",
        "resolvConf": f"{run}/resolv.conf",
        "podLogsDir": f"{run}/pod-logs",
        "volumePluginDir": f"{run}/volume-plugins",
        # Images cannot be pulled again here, so a full disk must not delete them, nor evict what runs.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            name: "0%" for name in ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
        },
    }


def kubelet(layout: Layout, binaries: Path) -> Service:
    """Write kubelet's configuration and say how it starts."""
    (layout.run_dir / "resolv.conf").write_text(f"nameserver {_NO_NAME_SERVER}\n")  # empty, containerd takes the host's
    for name in ("pod-logs", "volume-plugins"):
        (layout.run_dir / name).mkdir(exist_ok=True)
    config = layout.run_dir / "kubelet.json"
    config.write_text(json.dumps(_configuration(layout), indent=2))
    return Service("kubelet", (
        str(binaries / "kubelet"), f"--config={config}", f"--kubeconfig={layout.pki}/kubelet.kubeconfig",
        f"--root-dir={layout.run_dir}/kubelet", f"--cert-dir={layout.pki}",
        f"--hostname-override={NODE_NAME}", f"--node-ip={layout.node_ip}",
    ))  # fmt: skip


def remove_outside_files(layout: Layout, *, alone: bool) -> None:
    """Remove what kubelet wrote outside the run directory.

    :param alone: no other kubelet runs on this machine, so the device plugin directory is nobody else's.
    """
    if _CONTAINER_LOGS.is_dir():
        for link in _CONTAINER_LOGS.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(f"{layout.run_dir}/"):
                link.unlink()
    remove_empty(_CONTAINER_LOGS)
    if (
        alone
        and _DEVICE_PLUGINS.is_dir()
        and {p.name for p in _DEVICE_PLUGINS.iterdir()}
        <= {"DEPRECATION", "kubelet.sock", "kubelet_internal_checkpoint"}
    ):
        shutil.rmtree(_DEVICE_PLUGINS)
    remove_empty(_DEVICE_PLUGINS.parent)
