"""Decides how KServe runs: its two controllers as processes of this machine, in Standard mode, with their webhooks.

Their manifests come from KServe's own Go module: definitions, roles and webhooks are what a real installation has.
What differs is said here: webhooks are called by URL, certificates are the cluster's own (no cert-manager), and
nothing makes an Ingress (no Istio, Knative or Gateway API).
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from devcluster.api import ApiClient, ApiError
from devcluster.binaries import KSERVE
from devcluster.errors import DevclusterError
from devcluster.layout import ControllerPorts, Layout
from devcluster.processes import Service

NAMESPACE = "kserve"
SERVICES = ("kserve-manager", "kserve-llmisvc")
_CONFIG_MAP = "inferenceservice-config"
#: Without it no webhook says yes.
CONFIG_MAP_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{_CONFIG_MAP}"
#: Service account and cluster role of each controller, as KServe's manifests name them.
_ROLES = {
    "kserve-controller-manager": "kserve-manager-role",
    "llmisvc-controller-manager": "kserve-llmisvc-manager-role",
}
_COLLECTIONS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "LLMInferenceServiceConfig": "/apis/serving.kserve.io/v1alpha2/namespaces/kserve/llminferenceserviceconfigs",
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}
_CRD_DIRECTORIES = ("config/crd/full", "config/crd/full/clusterstoragecontainer")
_LLM_CRD_DIRECTORY = "config/crd/full/llmisvc"
_WEBHOOK_SERVICE = re.compile(
    r"^( *)service:\n *name: \$\(webhookServiceName\)\n *namespace: \$\(kserveNamespace\)\n *path: (\S+)\n",
    re.MULTILINE,
)
_QUANTITIES = {"cpuRequest": "100m", "cpuLimit": "1", "memoryRequest": "100Mi", "memoryLimit": "1Gi"}
_TIMEOUT_SECONDS = 10.0
_ESTABLISH_SECONDS = 60.0


def _configuration(version: str) -> dict[str, object]:
    """Say what the ConfigMap holds, one JSON document a key; images are KServe's own, and none is on this machine."""
    agent = {"image": f"kserve/agent:{version}", **_QUANTITIES}
    return {
        "deploy": {"defaultDeploymentMode": "Standard"},
        "ingress": {
            "ingressGateway": "knative-serving/knative-ingress-gateway",  # required, and not used
            "ingressDomain": "example.com",
            "disableIngressCreation": True,
            "disableIstioVirtualHost": True,
        },
        # KServe's own defaults, 1 CPU and 2Gi, would fill a small machine with two pods.
        "inferenceService": {"resource": {**_QUANTITIES, "memoryLimit": "2Gi"}},
        "storageInitializer": {
            "image": f"kserve/storage-initializer:{version}",
            **_QUANTITIES,
            "caBundleConfigMapName": "",
            "caBundleVolumeMountPath": "/etc/ssl/custom-certs",
            "enableModelcar": False,
        },
        "credentials": {
            "storageSpecSecretName": "storage-config",
            "storageSecretNameAnnotation": "serving.kserve.io/storageSecretName",
        },
        "logger": {**agent, "defaultUrl": "http://default-broker"},
        "batcher": {**agent, "maxBatchSize": "32", "maxLatency": "5000"},
        "agent": agent,
        "router": {"image": f"kserve/router:{version}", **_QUANTITIES},
        "metricsAggregator": {"enableMetricAggregation": "false", "enablePrometheusScraping": "false"},
        "localModel": {"enabled": False, "jobNamespace": "kserve-localmodel-jobs"},
        "security": {"autoMountServiceAccountToken": True},
    }


def controllers(layout: Layout, built: Path) -> tuple[Service, ...]:
    """Say how the controllers start; each looks for its certificate below its own TMPDIR."""
    manager, llmisvc = SERVICES
    return (
        _controller(layout, manager, built / "manager", "kserve", layout.kserve_ports),
        _controller(layout, llmisvc, built / "llmisvc", "llmisvc", layout.llmisvc_ports, "--metrics-secure=false"),
    )


def _controller(
    layout: Layout, name: str, program: Path, identity: str, ports: ControllerPorts, *arguments: str
) -> Service:
    scratch = layout.run_dir / name
    certificates = scratch / "k8s-webhook-server" / "serving-certs"
    certificates.mkdir(parents=True)
    for suffix in ("crt", "key"):
        shutil.copy(layout.pki / f"kserve-webhook.{suffix}", certificates / f"tls.{suffix}")
    argv = (
        str(program), f"--kubeconfig={layout.pki}/{identity}.kubeconfig", f"--webhook-port={ports.webhook}",
        f"--health-probe-addr=127.0.0.1:{ports.health}", f"--metrics-addr=127.0.0.1:{ports.metrics}", *arguments,
    )  # fmt: skip
    return Service(name, argv, {"TMPDIR": str(scratch), "POD_NAMESPACE": NAMESPACE})


def install(layout: Layout, built: Path) -> None:
    """Apply all that the controllers need before they start, webhooks included.

    :raises DevclusterError: when the API server refuses something.
    """
    try:
        _install(layout, ApiClient(layout, timeout_seconds=60.0), built / "manifests")
    except ApiError as error:
        raise DevclusterError(f"KServe {KSERVE.version} cannot be installed: {error}") from error


def _install(layout: Layout, api: ApiClient, manifests: Path) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    api.apply(f"/api/v1/namespaces/{NAMESPACE}", json.dumps(namespace))
    crds = [_apply(api, text) for text in _definitions(layout, manifests)]
    for directory in ("config/rbac", "config/rbac/llmisvc"):
        _apply(api, (manifests / directory / "role.yaml").read_text())
    for account, role in _ROLES.items():
        _bind(api, account, role)
    data = {key: json.dumps(value) for key, value in _configuration(KSERVE.version).items()}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _CONFIG_MAP}, "data": data}
    api.apply(CONFIG_MAP_PATH, json.dumps(config_map))
    for name in crds:
        _wait_until_served(api, name)
    for text in _files(manifests / "config/llmisvcconfig", "config-*.yaml"):
        _apply(api, text)
    for text in _webhooks(layout, manifests):
        _apply(api, text)


def _files(directory: Path, pattern: str) -> Iterator[str]:
    for path in sorted(directory.glob(pattern)):
        yield path.read_text()


def _definitions(layout: Layout, manifests: Path) -> Iterator[str]:
    for directory in _CRD_DIRECTORIES:
        yield from _files(manifests / directory, "serving.kserve.io_*.yaml")
    client = {"url": f"https://127.0.0.1:{layout.llmisvc_ports.webhook}/convert", "caBundle": _ca_bundle(layout)}
    webhook = {"clientConfig": client, "conversionReviewVersions": ["v1", "v1beta1"]}
    conversion = f"\nspec:\n  conversion: {json.dumps({'strategy': 'Webhook', 'webhook': webhook})}\n"
    for text in _files(manifests / _LLM_CRD_DIRECTORY, "serving.kserve.io_*.yaml"):
        yield text.replace("\nspec:\n", conversion, 1)


def _webhooks(layout: Layout, manifests: Path) -> Iterator[str]:
    for directory, ports in (
        ("config/webhook", layout.kserve_ports),
        ("config/webhook/llmisvc", layout.llmisvc_ports),
    ):
        url = f"https://127.0.0.1:{ports.webhook}"
        by_url = rf"\1url: {url}\2\n\1caBundle: {_ca_bundle(layout)}\n"
        text = _WEBHOOK_SERVICE.sub(by_url, (manifests / directory / "manifests.yaml").read_text())
        if "$(" in text:
            raise DevclusterError(f"{directory} of KServe {KSERVE.version} names a webhook in a way not known here")
        yield from (document for document in re.split(r"^---$", text, flags=re.MULTILINE) if document.strip())


def _ca_bundle(layout: Layout) -> str:
    return base64.b64encode((layout.pki / "ca.crt").read_bytes()).decode()


def _apply(api: ApiClient, text: str) -> str:
    """Apply one YAML document and return its object's name."""
    kind = re.search(r"^kind: (\S+)$", text, re.MULTILINE)
    name = re.search(r"^metadata:\n(?:  .*\n)*?  name: (\S+)$", text, re.MULTILINE)
    if kind is None or name is None:
        raise DevclusterError(f"a manifest of KServe {KSERVE.version} has no kind or name: {text[:200]!r}")
    api.apply(f"{_COLLECTIONS[kind[1]]}/{name[1]}", text)
    return name[1]


def _bind(api: ApiClient, account: str, role: str) -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }
    api.apply(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{account}", json.dumps(binding))


def _wait_until_served(api: ApiClient, definition: str) -> None:
    """Wait until the API server knows the resource: a controller looks once, when it starts."""
    deadline = time.monotonic() + _ESTABLISH_SECONDS
    path = f"{_COLLECTIONS['CustomResourceDefinition']}/{definition}"
    while time.monotonic() < deadline:
        # A busy API server answers `conditions: null` for a moment.
        conditions = (api.json(path).get("status") or {}).get("conditions") or []
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return
        time.sleep(0.2)
    raise DevclusterError(f"{definition} is not established after {_ESTABLISH_SECONDS:.0f} s")


def healthy(layout: Layout) -> bool:
    """Ask both controllers whether they are ready, their webhooks included."""
    return all(_answers(ports.health) for ports in (layout.kserve_ports, layout.llmisvc_ports))


def _answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=_TIMEOUT_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
