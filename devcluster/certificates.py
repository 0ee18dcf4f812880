"""Decides who is who in the cluster: one CA, one certificate per component, and a kubeconfig for each client.

All of it is made anew whenever the cluster starts, valid for a year, kept below the run directory, readable by
root only.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError
from devcluster.layout import NODE_NAME, Layout
from devcluster.packages import require_program

_DAYS = "365"


@dataclass(frozen=True)
class Identity:
    """What one certificate says: user (CN), group (O), and the addresses it serves, if any."""

    name: str
    user: str
    group: str = ""
    addresses: tuple[str, ...] = ()


def _openssl(*arguments: str) -> None:
    done = subprocess.run([require_program("openssl"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevclusterError(f"openssl {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _new_key(path: Path) -> None:
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", str(path))
    path.chmod(0o600)


def issue_all(layout: Layout) -> None:
    """Make the CA, the certificates, the service-account key and the kubeconfigs."""
    pki = layout.pki
    pki.mkdir(parents=True, exist_ok=True)
    pki.chmod(0o700)
    _new_key(pki / "ca.key")
    _openssl(
        "req", "-x509", "-new", "-key", str(pki / "ca.key"), "-days", _DAYS, "-subj", f"/CN={layout.name}",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", str(pki / "ca.crt"),
    )  # fmt: skip
    _new_key(pki / "service-account.key")
    _openssl("pkey", "-in", str(pki / "service-account.key"), "-pubout", "-out", str(pki / "service-account.pub"))
    for identity in _identities(layout):
        _issue(pki, identity)
    for name in ("controller-manager", "scheduler", "kubelet", "proxy", "kserve", "llmisvc"):
        _write_kubeconfig(layout, name, pki / f"{name}.kubeconfig")
    _write_kubeconfig(layout, "admin", layout.kubeconfig)


def _identities(layout: Layout) -> tuple[Identity, ...]:
    api_names = (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    )
    return (
        Identity(
            "apiserver", "kube-apiserver", "", (layout.node_ip, "127.0.0.1", layout.kubernetes_service_ip, *api_names)
        ),
        Identity("etcd", "etcd", "", ("127.0.0.1",)),
        Identity("etcd-client", "kube-apiserver"),
        Identity("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        Identity("kubelet-server", f"system:node:{NODE_NAME}", "system:nodes", (layout.node_ip, NODE_NAME)),
        Identity("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
        Identity("controller-manager", "system:kube-controller-manager"),
        Identity("scheduler", "system:kube-scheduler"),
        Identity("proxy", "system:kube-proxy"),
        # KServe's controllers are the service accounts of its own manifests, whose rights they get, with no pod.
        Identity("kserve", "system:serviceaccount:kserve:kserve-controller-manager"),
        Identity("llmisvc", "system:serviceaccount:kserve:llmisvc-controller-manager"),
        Identity("kserve-webhook", "kserve-webhook", "", ("127.0.0.1",)),
        Identity("admin", "admin", "system:masters"),
    )


def _issue(pki: Path, identity: Identity) -> None:
    key, request, extensions = (pki / f"{identity.name}.{suffix}" for suffix in ("key", "csr", "ext"))
    subject = (f"/O={identity.group}" if identity.group else "") + f"/CN={identity.user}"
    lines = [
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=serverAuth,clientAuth",
        "basicConstraints=critical,CA:FALSE",
    ]
    lines += ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]  # Python 3.13 verifies strictly
    if identity.addresses:
        names = [f"{'IP' if a[0].isdigit() else 'DNS'}:{a}" for a in identity.addresses]
        lines.append(f"subjectAltName={','.join(names)}")
    extensions.write_text("\n".join(lines) + "\n")
    _new_key(key)
    _openssl("req", "-new", "-key", str(key), "-subj", subject, "-out", str(request))
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key"),
        "-CAcreateserial", "-days", _DAYS, "-extfile", str(extensions), "-out", str(pki / f"{identity.name}.crt"),
    )  # fmt: skip
    request.unlink()
    extensions.unlink()


def _write_kubeconfig(layout: Layout, name: str, path: Path) -> None:
    def embed(file: str) -> str:
        return base64.b64encode((layout.pki / file).read_bytes()).decode()

    cluster = {"server": layout.api_url, "certificate-authority-data": embed("ca.crt")}
    user = {"client-certificate-data": embed(f"{name}.crt"), "client-key-data": embed(f"{name}.key")}
    document = {  # JSON is YAML, and the standard library can write it
        "apiVersion": "v1", "kind": "Config", "current-context": layout.name,
        "clusters": [{"name": layout.name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": name}}],
    }  # fmt: skip
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2) + "\n")
