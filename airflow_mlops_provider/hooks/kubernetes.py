"""Creating a pod so that a lost reply neither fails the task nor leaves a second pod.

Decides when a pod that is already there is our own. Everything else about pods is the Kubernetes provider's business.
Does I/O through the Kubernetes client that the operator hands over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager

from airflow_mlops_provider.manifests.naming import CREATE_ID_ANNOTATION

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

_CONFLICT = 409


class IdempotentPodManager(PodManager):
    """A pod manager whose ``create_pod`` may be repeated: the second request finds what the first one made.

    The API server may create a pod and lose the reply. The client then asks again and is told 409, over and over,
    while the pod runs unobserved. Each request carries its own ID as an annotation; a pod with that ID is the answer.
    """

    def create_pod(self, pod: V1Pod) -> V1Pod:
        """Create *pod*, or return the one that an earlier try of this same request created.

        :raises ApiException: the API server refuses the pod, or a different pod has its name.
        """
        create_id = (pod.metadata.annotations or {}).get(CREATE_ID_ANNOTATION)
        return self._create(pod, create_id)

    @generic_api_retry  # type: ignore[untyped-decorator]
    def _create(self, pod: V1Pod, create_id: str | None) -> V1Pod:
        from kubernetes.client.exceptions import ApiException

        # Not super().run_pod_async: on a failure that prints the whole pod, literals of secrets included.
        body = self._client.api_client.sanitize_for_serialization(pod)
        try:
            return self._client.create_namespaced_pod(body=body, namespace=pod.metadata.namespace)
        except ApiException as error:
            if error.status != _CONFLICT or not create_id:
                raise
            existing = self._client.read_namespaced_pod(name=pod.metadata.name, namespace=pod.metadata.namespace)
            if (existing.metadata.annotations or {}).get(CREATE_ID_ANNOTATION) != create_id:
                raise
            self.log.info("Pod %s was created by a request whose reply was lost; going on with it.", pod.metadata.name)
            return existing
