"""Decides how etcd, API server, controller manager and scheduler run; writes the audit policy."""

from __future__ import annotations

import json
from pathlib import Path

from devcluster.layout import Layout
from devcluster.packages import require_program
from devcluster.processes import Service

#: Who did what to pods and everything else that matters, without bodies; reads by the components themselves are noise.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}, {"group": "coordination.k8s.io"}]},
        {
            "level": "Metadata",
            "resources": [{"group": "", "resources": ["pods", "pods/exec", "pods/log", "pods/eviction"]}],
        },
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata"},
    ],
}


def etcd(layout: Layout) -> Service:
    """Keep the state; TLS with client certificates, because loopback is open to every user of the machine."""
    url, peer = f"https://127.0.0.1:{layout.etcd_port}", f"http://127.0.0.1:{layout.etcd_peer_port}"
    unsupported = {"ETCD_UNSUPPORTED_ARCH": "arm64"}  # etcd 3.4 starts there only when told so; ignored elsewhere
    return Service("etcd", (
        require_program("etcd"), f"--data-dir={layout.run_dir}/etcd", "--name=etcd",
        f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=etcd={peer}",
        f"--cert-file={layout.pki}/etcd.crt", f"--key-file={layout.pki}/etcd.key",
        "--client-cert-auth", f"--trusted-ca-file={layout.pki}/ca.crt",
        "--logger=zap", "--log-level=warn",
    ), unsupported)  # fmt: skip


def api_server(layout: Layout, binaries: Path) -> Service:
    """Serve the API on the node's own address only: pods and this machine reach it, the network does not."""
    pki = layout.pki
    policy = layout.run_dir / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY, indent=2))
    return Service("kube-apiserver", (
        str(binaries / "kube-apiserver"),
        f"--bind-address={layout.node_ip}", f"--advertise-address={layout.node_ip}", f"--secure-port={layout.api_port}",
        f"--etcd-servers=https://127.0.0.1:{layout.etcd_port}", f"--etcd-cafile={pki}/ca.crt",
        f"--etcd-certfile={pki}/etcd-client.crt", f"--etcd-keyfile={pki}/etcd-client.key",
        f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-certificate-authority={pki}/ca.crt", f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key", "--kubelet-preferred-address-types=InternalIP",
        f"--service-cluster-ip-range={layout.service_subnet}", "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-account.pub",
        f"--service-account-signing-key-file={pki}/service-account.key",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--audit-policy-file={policy}", f"--audit-log-path={layout.logs}/audit.jsonl", "--audit-log-maxsize=100",
        "--audit-log-maxbackup=2", "--profiling=false",
    ))  # fmt: skip


def controller_manager(layout: Layout, binaries: Path) -> Service:
    """Run the controllers; alone, so without leader election."""
    pki = layout.pki
    return Service("kube-controller-manager", (
        str(binaries / "kube-controller-manager"), f"--kubeconfig={pki}/controller-manager.kubeconfig",
        "--bind-address=127.0.0.1", f"--secure-port={layout.controller_manager_port}", "--leader-elect=false",
        "--use-service-account-credentials", f"--service-account-private-key-file={pki}/service-account.key",
        f"--root-ca-file={pki}/ca.crt", f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--cert-dir={pki}", f"--flex-volume-plugin-dir={layout.run_dir}/volume-plugins", "--profiling=false",
    ))  # fmt: skip


def scheduler(layout: Layout, binaries: Path) -> Service:
    """Place pods; alone, so without leader election."""
    return Service("kube-scheduler", (
        str(binaries / "kube-scheduler"), f"--kubeconfig={layout.pki}/scheduler.kubeconfig",
        "--bind-address=127.0.0.1", f"--secure-port={layout.scheduler_port}", "--leader-elect=false",
        "--profiling=false",
    ))  # fmt: skip
