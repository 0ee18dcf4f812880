"""Taking an online service away: this very object, ours, and everything that hangs on it.

Decides what may be deleted and when it is gone. Does I/O through the KServe hook while a task runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlops_provider.hooks.failing import permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context


class KServeDeleteOperator(BaseOperator):
    """Delete an InferenceService that this provider made, and wait until its pods are gone.

    :param uid: delete this very object only; None: the one that has the name now. (templated)
    :param timeout_seconds: for the object and everything below it.
    :param ignore_missing: an object that is not there is as good as deleted.
    :param kind: ``InferenceService`` or ``LLMInferenceService``.
    :return: ``{"name", "namespace", "uid", "deleted"}``
    :raises AirflowFailException: the object is somebody else's, or another one has its name by now.
    :raises DeploymentTimeoutError: it is not gone in time; names the finalizers that hold it.
    """

    template_fields: Sequence[str] = ("name", "namespace", "kubernetes_conn_id", "uid")
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        kubernetes_conn_id: str = "kubernetes_default",
        uid: str | None = None,
        timeout_seconds: float = 300,
        ignore_missing: bool = True,
        kind: str = "InferenceService",
        api_version: str = "serving.kserve.io/v1beta1",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.uid = uid
        self.timeout_seconds = timeout_seconds
        self.ignore_missing = ignore_missing
        self.kind = kind
        self.api_version = api_version

    def execute(self, context: Context) -> dict[str, Any]:
        """Find, check, delete, wait."""
        from airflow_mlops_provider.hooks.kserve import KServeHook
        from airflow_mlops_provider.hooks.kserve_api import ServiceReference
        from airflow_mlops_provider.hooks.kserve_delete import delete_service

        reference = ServiceReference(
            name=self.name, namespace=self.namespace, kind=self.kind, api_version=self.api_version
        )
        with permanent_errors_fail():
            uid = delete_service(
                KServeHook(self.kubernetes_conn_id),
                reference,
                uid=self.uid or None,
                timeout_seconds=self.timeout_seconds,
                ignore_missing=self.ignore_missing,
                say=self.log.info,
            )
        return {"name": self.name, "namespace": self.namespace, "uid": uid, "deleted": uid is not None}
