"""The trigger's door to KServe: the same requests as :mod:`.kserve`, sent from an event loop, and a watch.

Decides how a watch stays true: lists give the state, watches wake it up, a lost watch (410, a closed connection, an
outage) begins with a list again. The judgement is :mod:`airflow_mlops_provider.manifests.rollout`'s. Does I/O.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes (v1.34)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_mlops_provider.exceptions import TransientError
from airflow_mlops_provider.hooks import kserve_api
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, NotFoundError, ServiceReference
from airflow_mlops_provider.hooks.kserve_rollout import OUTAGE_SECONDS
from airflow_mlops_provider.manifests.rollout import Observation, Target, judge
from airflow_mlops_provider.manifests.rollout_evidence import Verdict
from airflow_mlops_provider.manifests.rollout_patience import Patience

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

_REQUEST_SECONDS: Final = 30.0
#: The server ends a watch after this long; a new list follows, so a change that was missed is seen then at the latest.
_WATCH_SECONDS: Final = 240
#: Many changes come together: judge them once.
_BREATH_SECONDS: Final = 0.5
#: Evidence that has to last is looked at again although nothing changes.
_DOUBT_SECONDS: Final = 3.0
_OUTAGE_PAUSE_SECONDS: Final = 5.0


class AsyncKServeHook:
    """Read one connection's API server from an event loop.

    :param kubernetes_conn_id: connection of type ``kubernetes``.
    """

    def __init__(self, kubernetes_conn_id: str = "kubernetes_default") -> None:
        self.kubernetes_conn_id = kubernetes_conn_id

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncKubeClient]:
        """Open a client: one TLS connection pool for as long as the block lasts."""
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

        async with AsyncKubernetesHook(conn_id=self.kubernetes_conn_id).get_conn() as api_client:
            yield AsyncKubeClient(api_client)

    async def delete(self, reference: ServiceReference, uid: str) -> None:
        """Ask for the deletion of this very object; nothing happens where it is gone."""
        async with self.connect() as client:
            with suppress(NotFoundError):
                await client.ask(kserve_api.delete_service(reference, uid), str(reference))


class AsyncKubeClient:
    """Send requests of :mod:`.kserve_api` from an event loop."""

    def __init__(self, api_client: ApiClient) -> None:
        self._api_client = api_client

    async def ask(self, request: KubeRequest, subject: str) -> Any:
        """Send one request and return the JSON answer.

        :raises MLOpsProviderError: as :func:`~airflow_mlops_provider.hooks.kserve_api.error_of` says.
        """
        async with self._open(request, subject, _REQUEST_SECONDS) as answer:
            return json.loads(await answer.text())

    async def send(self, request: KubeRequest, *, timeout_seconds: float = _REQUEST_SECONDS) -> tuple[int, str]:
        """Send one request and return status and body, whatever they are; 0 and the reason without an answer."""
        import aiohttp

        try:
            answer = await self._call(request, timeout_seconds)
            try:
                return answer.status, await answer.text(errors="replace")
            finally:
                answer.close()
        except (aiohttp.ClientError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}"

    async def observe(self, reference: ServiceReference, *, events: bool = False) -> tuple[Observation, dict[str, str]]:
        """Return what the cluster shows, and from where each list's watch has to go on."""
        subject, versions, found = str(reference), {}, {}
        for kind in kserve_api.CHILDREN:
            answer = await self.ask(kserve_api.list_children(kind, reference), subject)
            found[kind], versions[kind] = answer.get("items") or [], answer["metadata"]["resourceVersion"]
        services = await self.ask(kserve_api.list_service(reference), subject)
        versions["service"] = services["metadata"]["resourceVersion"]
        items = services.get("items") or []
        for item in items:
            item.setdefault("kind", reference.kind)
        complaints = (await self.ask(kserve_api.list_events(reference.namespace), subject))["items"] if events else []
        return Observation(service=items[0] if items else None, events=complaints, **found), versions

    async def watch(self, request: KubeRequest, resource_version: str, subject: str) -> None:
        """Return when something has changed, or when it cannot be told any more.

        :raises TransientError: the watch broke off.
        """
        query = {
            **request.query,
            "watch": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        async with self._open(replace(request, query=query), subject, _WATCH_SECONDS + _REQUEST_SECONDS) as answer:
            # Whatever arrives, a change or an ERROR with 410 (expired), is answered by a new list.
            await answer.content.readany()

    @asynccontextmanager
    async def _open(self, request: KubeRequest, subject: str, seconds: float) -> AsyncIterator[Any]:
        import aiohttp
        from kubernetes_asyncio.client.exceptions import ApiException

        try:
            answer = await self._call(request, seconds)
            try:
                if answer.status >= 300:
                    raise kserve_api.error_of(answer.status, await answer.text(), subject)
                yield answer
            finally:
                answer.close()
        except ApiException as error:
            raise kserve_api.error_of(error.status or 0, str(error.body or error.reason), subject) from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(
                f"{subject}: the API server does not answer: {error or type(error).__name__}"
            ) from error

    async def _call(self, request: KubeRequest, seconds: float) -> Any:
        return await self._api_client.call_api(**request.call_arguments(seconds))


async def watch_rollout(
    hook: AsyncKServeHook,
    reference: ServiceReference,
    target: Target,
    *,
    deadline_seconds: float,
    say: Callable[[str], None],
) -> Verdict:
    """Wait until the rollout is over, and return how: ``ready``, ``failed``, or ``waiting`` at the deadline.

    :param deadline_seconds: Unix time.
    :raises TransientError: the API server was away for ten minutes. Everything unexpected escapes as it is.
    """
    watch = _RolloutWatch(reference, target, deadline_seconds, say)
    while True:
        try:
            async with hook.connect() as client:
                return await watch.follow(client)
        except TransientError as error:
            watch.outage(error)
            await asyncio.sleep(_OUTAGE_PAUSE_SECONDS)


class _RolloutWatch:
    """One wait, over as many connections as it takes."""

    def __init__(
        self, reference: ServiceReference, target: Target, deadline_seconds: float, say: Callable[[str], None]
    ) -> None:
        self._reference, self._target = reference, target
        self._deadline_seconds, self._say = deadline_seconds, say
        self._patience, self._told = Patience(), ""
        self._outage_since: float | None = None

    async def follow(self, client: AsyncKubeClient) -> Verdict:
        while True:
            versions, verdict = await self._look(client)
            self._outage_since = None
            doubtful = verdict.state == "suspected"
            verdict = self._patience.weigh(verdict, time.monotonic())
            if verdict.cause != self._told:
                self._told = verdict.cause
                self._say(f"{self._reference}: {verdict.cause}")
            left = self._deadline_seconds - time.time()
            if verdict.state in ("ready", "failed") or left <= 0:
                return verdict
            await self._wait_for_change(client, versions, min(left, _DOUBT_SECONDS if doubtful else _WATCH_SECONDS))

    def outage(self, error: TransientError) -> None:
        """Note that the API server is away. :raises TransientError: for too long."""
        self._outage_since = self._outage_since or time.monotonic()
        if time.monotonic() - self._outage_since > OUTAGE_SECONDS:
            raise error
        self._say(f"{self._reference}: going on to ask: {error}")

    async def _look(self, client: AsyncKubeClient) -> tuple[dict[str, str], Verdict]:
        seen, versions = await client.observe(self._reference)
        verdict = judge(seen, self._target)
        if verdict.state == "suspected" or not seen.pods:
            seen, versions = await client.observe(self._reference, events=True)
            verdict = judge(seen, self._target)
        return versions, verdict

    async def _wait_for_change(self, client: AsyncKubeClient, versions: dict[str, str], seconds: float) -> None:
        subject = str(self._reference)
        requests = {kind: kserve_api.list_children(kind, self._reference) for kind in kserve_api.CHILDREN}
        requests["service"] = kserve_api.list_service(self._reference)
        watches = [
            asyncio.create_task(client.watch(request, versions[kind], subject)) for kind, request in requests.items()
        ]
        try:
            done, _ = await asyncio.wait(watches, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        for watch in done:
            watch.result()
        await asyncio.sleep(min(_BREATH_SECONDS, seconds))
