"""One step of a canary in the triggerer: probes are sent and compared while no worker waits.

Decides nothing: the step is :mod:`airflow_mlops_provider.hooks.kserve_probe`'s. What travels in the arguments is the
step in JSON types with its deadline, so that any triggerer can go on with it. It then measures anew: the whole number
of requests is sent in the time that is left. Does I/O through the KServe hook.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import MLOpsProviderError, TransientError


class KServeCanaryTrigger(BaseTrigger):
    """Fire when a step is over, or when a bar is broken.

    The event is ``{"outcome": {"measurement": {…}, "breach": {…} | None}}``, or ``{"error": "…", "transient": False}``
    where nothing could be measured. What is unexpected escapes.

    :param step: a ``BakeStep`` as a dictionary.
    :param undo: what takes the candidate away if a person ends the task while it waits here:
        ``{"service": {…}, "uid": "…"}`` is deleted, ``{"manifest": {…}}`` is applied.
    """

    def __init__(self, *, kubernetes_conn_id: str, step: Mapping[str, Any], undo: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kubernetes_conn_id = kubernetes_conn_id
        self.step = dict(step)
        self.undo = dict(undo)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_mlops_provider.triggers.kserve_canary.KServeCanaryTrigger",
            {"kubernetes_conn_id": self.kubernetes_conn_id, "step": self.step, "undo": self.undo},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow_mlops_provider.hooks.kserve_probe import BakeStep, arun_bake
        from airflow_mlops_provider.hooks.kserve_watch import AsyncKServeHook

        event: dict[str, Any]
        try:
            async with AsyncKServeHook(self.kubernetes_conn_id).connect() as client:
                event = {"outcome": await arun_bake(client, BakeStep(**self.step), self.log.info)}
        except MLOpsProviderError as error:
            # The task has to take the candidate away: a trigger that fails would not let it.
            event = {"error": str(error), "transient": isinstance(error, TransientError)}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Take the candidate away."""
        from airflow_mlops_provider.hooks import kserve_api
        from airflow_mlops_provider.hooks.kserve_watch import AsyncKServeHook

        hook = AsyncKServeHook(self.kubernetes_conn_id)
        if "uid" in self.undo:
            await hook.delete(kserve_api.ServiceReference(**self.undo["service"]), self.undo["uid"])
        elif "manifest" in self.undo:
            manifest = self.undo["manifest"]
            async with hook.connect() as client:
                request = kserve_api.apply_service(manifest, dry_run=False)
                await client.ask(request, str(kserve_api.reference_of(manifest)))
