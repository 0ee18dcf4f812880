"""Airflow's door to KServe for a task: read, apply, observe, delete, and ask the pods.

Decides nothing about rollouts (:mod:`airflow_mlops_provider.manifests.rollout` does); it carries the requests of
:mod:`.kserve_api` through the client of Airflow's Kubernetes hook. :mod:`.kserve_watch` is a trigger's twin. Does I/O.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow_mlops_provider.exceptions import TransientError
from airflow_mlops_provider.hooks import kserve_api
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, ServiceReference
from airflow_mlops_provider.hooks.kubernetes_access import missing_permission
from airflow_mlops_provider.manifests.rollout import Observation

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

#: One request; the API server itself gives a webhook 10 s.
_REQUEST_SECONDS: Final = 30.0
#: A controller that restarts, or a write at the same moment, is over after a few tries.
_TRIES: Final = 4
_PAUSE_SECONDS: Final = 2.0
_NOT_FOUND: Final = 404


class KServeHook:
    """Speak to the API server of one connection. Not for several threads at once.

    :param kubernetes_conn_id: connection of type ``kubernetes``.
    """

    def __init__(self, kubernetes_conn_id: str = "kubernetes_default") -> None:
        self.kubernetes_conn_id = kubernetes_conn_id

    @cached_property
    def api_client(self) -> ApiClient:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        return KubernetesHook(conn_id=self.kubernetes_conn_id).get_conn()

    def get_service(self, reference: ServiceReference) -> dict[str, Any] | None:
        """Return the object, None where there is none."""
        return self._find(kserve_api.read_service(reference), str(reference))

    def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Apply server-side and return the object as it is then.

        :param dry_run: let the API server and its webhooks judge it, and change nothing.
        :raises ConflictError: somebody else owns a field of it.
        :raises DeploymentFailedError: the API server, a webhook or a quota refuses it.
        """
        request = kserve_api.apply_service(manifest, dry_run=dry_run)
        applied: dict[str, Any] = self._ask(request, str(kserve_api.reference_of(manifest)))
        return applied

    def delete(self, reference: ServiceReference, uid: str) -> bool:
        """Ask for the deletion of this very object; return whether it was there.

        :raises ConflictError: another object has its name by now.
        """
        return self._find(kserve_api.delete_service(reference, uid), str(reference)) is not None

    def observe(self, reference: ServiceReference, *, events: bool = False) -> Observation:
        """Return what the cluster shows of a service now.

        :param events: read the namespace's events, too.
        """
        subject = str(reference)
        children = {
            kind: self._items(kserve_api.list_children(kind, reference), subject) for kind in kserve_api.CHILDREN
        }
        seen = self.list_events(reference) if events else []
        return Observation(service=self.get_service(reference), events=seen, **children)

    def list_events(self, reference: ServiceReference) -> list[dict[str, Any]]:
        """Return the events of the service's namespace."""
        return self._items(kserve_api.list_events(reference.namespace), str(reference))

    def get_runtime(self, name: str, namespace: str) -> dict[str, Any] | None:
        """Return the namespace's ServingRuntime of this name, else the cluster's, as KServe looks for it."""
        base = "/apis/serving.kserve.io/v1alpha1"
        for path in (f"{base}/namespaces/{namespace}/servingruntimes/{name}", f"{base}/clusterservingruntimes/{name}"):
            found = self._find(KubeRequest(method="GET", path=path), f"serving runtime {name}")
            if found is not None:
                return found
        return None

    def read_log(self, namespace: str, pod: str, container: str, *, previous: bool = False, lines: int = 30) -> str:
        """Return the last lines of a container, nothing where it has none (yet, or any more).

        It explains a failure, so a missing permission stands in its place instead of hiding that failure.
        """
        request = kserve_api.read_logs(namespace, pod, container, previous=previous, lines=lines)
        status, body = self.send(request)
        if status == 403 and (denied := missing_permission(body)):
            return f"(not readable: {denied})"
        # A container that was just replaced: the kubelet answers 200 and says that it has lost the log.
        return "" if status != 200 or body.startswith("unable to retrieve container logs") else body.rstrip()

    def send(self, request: KubeRequest, *, timeout_seconds: float = _REQUEST_SECONDS) -> tuple[int, str]:
        """Send one request and return status and body, whatever they are; 0 and the reason without an answer."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = self.api_client.call_api(**request.call_arguments(timeout_seconds))
            return answer.status, _text(answer.data)
        except ApiException as error:
            return error.status or 0, _text(error.body) or str(error.reason)
        except HTTPError as error:
            return 0, f"{type(error).__name__}: {error}"

    def _ask(self, request: KubeRequest, subject: str) -> Any:
        """Send, try again what may pass, and return the JSON answer."""
        tries = 0
        while True:
            status, body = self.send(request)
            if 200 <= status < 300:
                return json.loads(body)
            tries += 1
            error = kserve_api.error_of(status, body, subject)
            if tries >= _TRIES or not isinstance(error, TransientError):
                raise error
            time.sleep(_PAUSE_SECONDS)

    def _find(self, request: KubeRequest, subject: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._ask(request, subject)
        except kserve_api.NotFoundError:
            return None
        return found

    def _items(self, request: KubeRequest, subject: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._ask(request, subject).get("items") or []
        return items


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""
