"""Waiting for a service that somebody else deploys: Argo CD, another DAG, a person.

Decides nothing about readiness: the judgement is :mod:`airflow_mlops_provider.manifests.rollout`'s, the same as after a
deployment of our own. Does I/O through the KServe hook while a task runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, conf

from airflow_mlops_provider.hooks.failing import permanent_errors_fail

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.hooks.kserve_api import ServiceReference
    from airflow_mlops_provider.manifests.rollout import Target
    from airflow_mlops_provider.manifests.rollout_evidence import Verdict


class KServeReadySensor(BaseOperator):
    """Wait until an InferenceService is ready, truthfully: all pods that it selects have the awaited spec.

    :param spec_hash: of the awaited spec, the annotation ``airflow-mlops/spec-hash`` of its predictor; None: whatever
        the object asks for. Until the object is there and has this spec, the sensor waits. (templated)
    :param timeout_seconds: for all of it.
    :param kind: ``InferenceService`` or ``LLMInferenceService``.
    :return: ``{"name", "namespace", "spec_hash", "pods"}``
    :raises AirflowFailException: the cluster shows that this rollout will not succeed; the first line is the cause.
    :raises DeploymentTimeoutError: not ready in time.
    """

    template_fields: Sequence[str] = ("name", "namespace", "kubernetes_conn_id", "spec_hash")
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        kubernetes_conn_id: str = "kubernetes_default",
        spec_hash: str | None = None,
        timeout_seconds: float = 600,
        poll_interval_seconds: float = 2,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        kind: str = "InferenceService",
        api_version: str = "serving.kserve.io/v1beta1",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.spec_hash = spec_hash
        self.timeout_seconds = timeout_seconds
        self.poll_interval_seconds = poll_interval_seconds
        self.deferrable = deferrable
        self.kind = kind
        self.api_version = api_version

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait here or in the triggerer."""
        from airflow_mlops_provider.hooks.kserve import KServeHook
        from airflow_mlops_provider.hooks.kserve_rollout import wait_for_rollout

        deadline = time.time() + self.timeout_seconds
        if self.deferrable:
            self._defer(deadline)
        with permanent_errors_fail():
            verdict = wait_for_rollout(
                KServeHook(self.kubernetes_conn_id),
                self._reference(),
                self._target(),
                deadline_seconds=deadline,
                poll_interval_seconds=self.poll_interval_seconds,
                say=self.log.info,
            )
            return self._result(verdict)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the trigger's event, in a new process."""
        from airflow_mlops_provider.manifests.rollout_evidence import Verdict

        with permanent_errors_fail():
            return self._result(Verdict(**{**event, "pods": tuple(event["pods"])}))

    def _defer(self, deadline: float) -> None:
        from airflow_mlops_provider.triggers.kserve import KServeRolloutTrigger

        self.defer(
            trigger=KServeRolloutTrigger(
                kubernetes_conn_id=self.kubernetes_conn_id,
                service=self._reference().to_dict(),
                target=asdict(self._target()),
                deadline_seconds=deadline,
            ),
            method_name="execute_complete",
        )

    def _reference(self) -> ServiceReference:
        from airflow_mlops_provider.hooks.kserve_api import ServiceReference

        return ServiceReference(name=self.name, namespace=self.namespace, kind=self.kind, api_version=self.api_version)

    def _target(self) -> Target:
        from airflow_mlops_provider.manifests.rollout import Target

        return Target(
            name=self.name,
            namespace=self.namespace,
            uid=None,
            spec_hash=self.spec_hash or None,
            generation=None,
            min_replicas=None,
            kind=self.kind,
            patient=True,
        )

    def _result(self, verdict: Verdict) -> dict[str, Any]:
        from airflow_mlops_provider.hooks.kserve import KServeHook
        from airflow_mlops_provider.hooks.kserve_rollout import explain
        from airflow_mlops_provider.manifests.inference_service_seal import read_spec_hash

        hook = KServeHook(self.kubernetes_conn_id)
        if verdict.state != "ready":
            raise explain(hook, self._reference(), self._target(), verdict)
        live = hook.get_service(self._reference())
        return {
            "name": self.name,
            "namespace": self.namespace,
            "spec_hash": read_spec_hash(live) if live else self.spec_hash,
            "pods": list(verdict.pods),
        }
