"""The manifest that offers an image to KServe, with the packages it holds: values → dictionary, pure.

Whoever deploys compares a model's requirements with the annotation before anything is created. The fields are those of
KServe 0.20: a ServingRuntime has no pod security context and no grace period, so the containers carry the former and
the server's drain fits into the 30 s that pods have by default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

PACKAGES_ANNOTATION = "airflow-mlops/packages"
_PORT = 8080


def build_serving_runtime(name: str, image: str, packages: Mapping[str, object]) -> dict[str, object]:
    """Return a ClusterServingRuntime whose pods serve what the storage initializer left in ``/mnt/models``."""
    annotations = {PACKAGES_ANNOTATION: json.dumps(packages, separators=(",", ":"), sort_keys=True)}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterServingRuntime",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/part-of": "airflow-mlops"},
            "annotations": annotations,
        },
        "spec": {
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(_PORT),
                "prometheus.io/path": "/metrics",
                "prometheus.kserve.io/port": str(_PORT),
                "prometheus.kserve.io/path": "/metrics",
            },
            "supportedModelFormats": [{"name": "mlflow", "autoSelect": False}],
            "protocolVersions": ["v1", "v2"],
            "containers": [_build_container(image)],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }


def _build_container(image: str) -> dict[str, object]:
    return {
        "name": "kserve-container",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # Not `command`: the image's entrypoint is the program, and images for other requirements keep it.
        "args": ["serve", "--model-dir=/mnt/models", "--model-name={{.Name}}", f"--port={_PORT}"],
        "ports": [{"containerPort": _PORT, "name": "http1", "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The server listens when the model is loaded and warm: until then probes are refused a connection.
        "startupProbe": _probe("/v2/health/live", periodSeconds=2, failureThreshold=300, timeoutSeconds=2),
        "readinessProbe": _probe("/v2/health/ready", periodSeconds=2, failureThreshold=3, timeoutSeconds=2),
        "livenessProbe": _probe("/v2/health/live", periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _probe(path: str, **timing: int) -> dict[str, object]:
    return {"httpGet": {"path": path, "port": _PORT}, **timing}
