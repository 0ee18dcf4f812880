"""Decides how cluster IPs work: kube-proxy in nftables mode, all of whose rules lie in a table of its own.

Everything it forwards is masqueraded: two pods on one bridge would otherwise answer each other past the proxy.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from devcluster.layout import NODE_NAME, Layout
from devcluster.packages import find_program
from devcluster.processes import Service

#: Fixed in kube-proxy's source (pkg/proxy/nftables, kubeProxyTable).
_TABLE = "kube-proxy"


def kube_proxy(layout: Layout, binaries: Path) -> Service:
    """Write kube-proxy's configuration and say how it starts."""
    health, metrics = layout.proxy_ports
    unchanged = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "nftables": {"masqueradeAll": True},
        "clientConnection": {"kubeconfig": f"{layout.pki}/proxy.kubeconfig"},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": layout.pod_subnet,
        "nodePortAddresses": [f"{layout.node_ip}/32"],
        "healthzBindAddress": f"127.0.0.1:{health}",
        "metricsBindAddress": f"127.0.0.1:{metrics}",
        "conntrack": unchanged,
    }
    config = layout.run_dir / "kube-proxy.json"
    config.write_text(json.dumps(configuration, indent=2))
    return Service("kube-proxy", (str(binaries / "kube-proxy"), f"--config={config}"))


def remove_rules(layout: Layout) -> None:
    """Delete kube-proxy's tables: it leaves them behind when it ends."""
    nft = find_program("nft")
    if nft is not None and layout.has_proxy:
        for family in ("ip", "ip6"):
            subprocess.run([nft, "delete", "table", family, _TABLE], capture_output=True, check=False)
