"""Waiting for a rollout in the triggerer: a watch that ends with one event, however long it takes.

Decides when the wait is over, by the same judgement as a task's poll. What travels in its arguments is names, UID,
hash and deadline, so that any triggerer can go on with it. Does I/O through the KServe hook.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import PermanentError


class KServeRolloutTrigger(BaseTrigger):
    """Fire when a service's rollout is ready, lost, or out of time. The event is a verdict as a dictionary.

    A permanent error (a missing permission) is a verdict, too: a trigger that fails would be tried again.

    :param service: a ``ServiceReference`` as a dictionary.
    :param target: a ``Target`` as a dictionary: which version of it.
    :param deadline_seconds: Unix time.
    :param delete_on_kill: delete this very object if a person ends the task while it waits here.
    """

    def __init__(
        self,
        *,
        kubernetes_conn_id: str,
        service: Mapping[str, str],
        target: Mapping[str, Any],
        deadline_seconds: float,
        delete_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kubernetes_conn_id = kubernetes_conn_id
        self.service = dict(service)
        self.target = dict(target)
        self.deadline_seconds = deadline_seconds
        self.delete_on_kill = delete_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_mlops_provider.triggers.kserve.KServeRolloutTrigger",
            {
                "kubernetes_conn_id": self.kubernetes_conn_id,
                "service": self.service,
                "target": self.target,
                "deadline_seconds": self.deadline_seconds,
                "delete_on_kill": self.delete_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow_mlops_provider.hooks.kserve_api import ServiceReference
        from airflow_mlops_provider.hooks.kserve_watch import AsyncKServeHook, watch_rollout
        from airflow_mlops_provider.manifests.rollout import Target
        from airflow_mlops_provider.manifests.rollout_evidence import Verdict

        hook = AsyncKServeHook(self.kubernetes_conn_id)
        try:
            verdict = await watch_rollout(
                hook,
                ServiceReference(**self.service),
                Target(**self.target),
                deadline_seconds=self.deadline_seconds,
                say=self.log.info,
            )
        except PermanentError as error:
            verdict = Verdict("failed", f"it cannot be watched: {error}")
        yield TriggerEvent(asdict(verdict))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Take away what the task made, if it asked for that; anything else stays as it is."""
        if self.delete_on_kill:
            from airflow_mlops_provider.hooks.kserve_api import ServiceReference
            from airflow_mlops_provider.hooks.kserve_watch import AsyncKServeHook

            hook = AsyncKServeHook(self.kubernetes_conn_id)
            await hook.delete(ServiceReference(**self.service), self.target["uid"])
