"""Kubernetes' API as values, as far as online services need it: which requests exist and what a refusal means.

Decides which error of :mod:`airflow_mlops_provider.exceptions` an answer is. Sending is left to :mod:`.kserve` (a task)
and :mod:`.kserve_watch` (a trigger). No I/O, no Airflow, no Kubernetes client.
https://kubernetes.io/docs/reference/using-api/api-concepts/ (v1.34)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from airflow_mlops_provider.exceptions import (
    AccessDeniedError,
    ConflictError,
    DeploymentFailedError,
    MLOpsProviderError,
    TransientError,
)
from airflow_mlops_provider.hooks.kubernetes_access import RBAC_FILE, missing_permission
from airflow_mlops_provider.manifests.inference_service import API_VERSION, KIND, LLM_KIND, PLURALS
from airflow_mlops_provider.manifests.inference_service_seal import FIELD_MANAGER

APPLY_PATCH: Final = "application/apply-patch+yaml"
#: The kinds below a service that show how its rollout goes: name → list path in a namespace.
CHILDREN: Final = {
    "deployments": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "replica_sets": "/apis/apps/v1/namespaces/{namespace}/replicasets",
    "pods": "/api/v1/namespaces/{namespace}/pods",
}


class NotFoundError(DeploymentFailedError):
    """The API server knows no such object, or no such kind. Reading turns the former into None."""


@dataclass(frozen=True, kw_only=True)
class KubeRequest:
    """One request to the API server."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"

    def call_arguments(self, timeout_seconds: float) -> dict[str, Any]:
        """Return the arguments of ``ApiClient.call_api``, which are the same for the blocking and the async client."""
        return {
            "resource_path": self.path,
            "method": self.method,
            "query_params": list(self.query.items()),
            "header_params": {"Accept": "application/json, */*", "Content-Type": self.content_type},
            "body": self.body,
            "auth_settings": ["BearerToken"],
            "_preload_content": False,
            "_return_http_data_only": True,
            "_request_timeout": timeout_seconds,
        }


@dataclass(frozen=True, kw_only=True)
class ServiceReference:
    """Which object is meant, in JSON types: :meth:`to_dict` travels in trigger arguments."""

    name: str
    namespace: str
    api_version: str = API_VERSION
    kind: str = KIND

    @property
    def path(self) -> str:
        return f"{self.list_path}/{self.name}"

    @property
    def list_path(self) -> str:
        return f"/apis/{self.api_version}/namespaces/{self.namespace}/{PLURALS[self.kind]}"

    @property
    def selector(self) -> str:
        """Return the label selector of everything that KServe makes for it."""
        if self.kind == LLM_KIND:
            return f"app.kubernetes.io/name={self.name},app.kubernetes.io/part-of=llminferenceservice"
        return f"serving.kserve.io/inferenceservice={self.name}"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def reference_of(manifest: Mapping[str, Any]) -> ServiceReference:
    metadata = manifest["metadata"]
    return ServiceReference(
        name=metadata["name"],
        namespace=metadata["namespace"],
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
    )


def read_service(reference: ServiceReference) -> KubeRequest:
    return KubeRequest(method="GET", path=reference.path)


def list_service(reference: ServiceReference) -> KubeRequest:
    """Read the object as a list of one, which can be watched."""
    return KubeRequest(
        method="GET", path=reference.list_path, query={"fieldSelector": f"metadata.name={reference.name}"}
    )


def list_children(kind: str, reference: ServiceReference) -> KubeRequest:
    path = CHILDREN[kind].format(namespace=reference.namespace)
    return KubeRequest(method="GET", path=path, query={"labelSelector": reference.selector})


def list_events(namespace: str) -> KubeRequest:
    return KubeRequest(method="GET", path=f"/api/v1/namespaces/{namespace}/events", query={"limit": "500"})


def apply_service(manifest: Mapping[str, Any], *, dry_run: bool) -> KubeRequest:
    """Server-side apply under our name; without force, so that nobody's field is taken from them."""
    query = {"fieldManager": FIELD_MANAGER, "force": "false", **({"dryRun": "All"} if dry_run else {})}
    path = reference_of(manifest).path
    return KubeRequest(method="PATCH", path=path, query=query, body=dict(manifest), content_type=APPLY_PATCH)


def delete_service(reference: ServiceReference, uid: str) -> KubeRequest:
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
    body["propagationPolicy"] = "Foreground" if reference.kind == KIND else "Background"
    return KubeRequest(method="DELETE", path=reference.path, body=body)


def read_logs(namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> KubeRequest:
    query = {"container": container, "tailLines": str(lines), **({"previous": "true"} if previous else {})}
    return KubeRequest(method="GET", path=f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query=query)


def error_of(status: int, body: str, subject: str) -> MLOpsProviderError:
    """Return what a refusal means.

    :param body: a ``Status`` in JSON, as the API server sends it; anything else is quoted.
    """
    answer = _status_of(body)
    message = str(answer.get("message") or body[:300] or "no reason given")
    if "failed calling webhook" in message:
        # The server waits up to 10 s for a webhook itself; a controller that restarts is back soon.
        return TransientError(f"{subject}: an admission webhook does not answer, so nothing can be applied: {message}")
    if status == 409:
        return _conflict(answer, message, subject)
    if status in (429, 500, 502, 503, 504) or status < 100:
        return TransientError(f"{subject}: the Kubernetes API server answered {status}: {message}")
    return _refusal(status, message, subject)


def _refusal(status: int, message: str, subject: str) -> MLOpsProviderError:
    if status == 401:
        return AccessDeniedError(f"{subject}: the Kubernetes API server does not accept the connection's credentials")
    if "exceeded quota" in message:
        return DeploymentFailedError(f"{subject}: over the quota: {message}")
    if "denied the request" in message or "ValidatingAdmissionPolicy" in message:
        return DeploymentFailedError(f"{subject}: refused by the cluster's admission: {message}")
    if status == 403:
        denied = missing_permission(message) or f"{message}; see {RBAC_FILE}"
        return AccessDeniedError(f"{subject}: not allowed: {denied}")
    if status == 404:
        return NotFoundError(f"{subject}: {message}; is KServe installed, and the namespace there?")
    return DeploymentFailedError(f"{subject}: refused by the API server ({status}): {message}")


def _status_of(body: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _conflict(answer: Mapping[str, Any], message: str, subject: str) -> MLOpsProviderError:
    causes = (answer.get("details") or {}).get("causes") or ()
    fields = [item for item in causes if item.get("reason") == "FieldManagerConflict"]
    if not fields:
        if "precondition" in message.lower():
            return ConflictError(f"{subject}: it was replaced by another object of the same name: {message}")
        return TransientError(f"{subject}: it was written at the same moment by somebody else: {message}")
    owned = "; ".join(f"{item.get('field')} ({item.get('message')})" for item in fields)
    return ConflictError(
        f"{subject}: somebody else owns fields that would be changed: {owned}; have them give the fields up, or leave "
        "the fields out here"
    )
