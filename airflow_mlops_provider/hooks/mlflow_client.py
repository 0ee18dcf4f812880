"""Send MLflow requests with httpx, synchronously (``MLflowClient``) or asynchronously (``AsyncMLflowClient``).

Decides that a redirect is never followed, so that credentials stay where they were meant to go. Leaves what to ask to
:mod:`.mlflow_resolve`, when to ask again to :mod:`.mlflow_retry`, and what a socket's failure means to
:mod:`.mlflow_transport`. Does I/O; imports neither Airflow nor mlflow, and never touches ``os.environ``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel
from airflow_mlops_provider.hooks.mlflow_api import Conversation
from airflow_mlops_provider.hooks.mlflow_cache import cache_for
from airflow_mlops_provider.hooks.mlflow_resolve import resolve, verify
from airflow_mlops_provider.hooks.mlflow_retry import Outcome, RetryPolicy, Send, Steps, Wait, hold
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings
from airflow_mlops_provider.hooks.mlflow_transport import BodyReader, describe_failure, tls_context

T = TypeVar("T")


class _BaseClient:
    def __init__(self, settings: MLflowSettings) -> None:
        self.settings = settings
        self.cache = cache_for(settings)

    def _steps(self, conversation: Conversation[T], total_seconds: float | None) -> Steps[T]:
        total = self.settings.total_seconds if total_seconds is None else total_seconds
        return hold(conversation, RetryPolicy(timeout_seconds=self.settings.timeout_seconds, total_seconds=total))

    def _request(self, step: Send) -> dict[str, Any]:
        request = step.request
        return {
            "method": request.method,
            "url": self.settings.tracking_uri + request.path,
            "params": dict(request.query) or None,
            "json": request.body,
            "headers": self.settings.headers(),
            "timeout": step.timeout_seconds,
        }


class MLflowClient(_BaseClient):
    """Hold conversations with one MLflow server over kept connections. Not for several threads at once.

    :param sleep: waits between tries; tests hand in one that does not.
    :param transport: httpx transport, for tests that count requests.
    """

    def __init__(
        self,
        settings: MLflowSettings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(settings)
        self._sleep = sleep
        self._http = httpx.Client(verify=tls_context(settings), follow_redirects=False, transport=transport)

    def run(self, conversation: Conversation[T], *, total_seconds: float | None = None) -> T:
        """Carry a conversation to its end.

        :param total_seconds: other bound than the settings' own; 0 means one try per request.
        """
        steps = self._steps(conversation, total_seconds)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                outcome = None
            else:
                outcome = self._send(step)

    def resolve_model(self, selector: ModelSelector) -> ResolvedModel:
        """Find the model that a selector means now; see :func:`.mlflow_resolve.resolve`."""
        return self.run(resolve(selector, self.settings, self.cache))

    def verify_model(self, resolved: ResolvedModel) -> None:
        """Check that a pinned model is still what it was; see :func:`.mlflow_resolve.verify`."""
        self.run(verify(resolved))

    def _send(self, step: Send) -> Outcome:
        reader = BodyReader(step)
        try:
            with self._http.stream(**self._request(step)) as answer:
                for chunk in answer.iter_bytes():
                    reader.add(chunk)
                return reader.response(answer)
        except (httpx.HTTPError, OSError) as error:  # httpx lets some TLS errors through as they are
            return describe_failure(error, self.settings)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncMLflowClient(_BaseClient):
    """The asynchronous twin of :class:`MLflowClient`; several conversations may run at once in one event loop."""

    def __init__(
        self,
        settings: MLflowSettings,
        *,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(settings)
        self._sleep = sleep
        self._http = httpx.AsyncClient(verify=tls_context(settings), follow_redirects=False, transport=transport)

    async def run(self, conversation: Conversation[T], *, total_seconds: float | None = None) -> T:
        """Carry a conversation to its end; see :meth:`MLflowClient.run`."""
        steps = self._steps(conversation, total_seconds)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                outcome = None
            else:
                outcome = await self._send(step)

    async def resolve_model(self, selector: ModelSelector) -> ResolvedModel:
        """Find the model that a selector means now; see :func:`.mlflow_resolve.resolve`."""
        return await self.run(resolve(selector, self.settings, self.cache))

    async def verify_model(self, resolved: ResolvedModel) -> None:
        """Check that a pinned model is still what it was; see :func:`.mlflow_resolve.verify`."""
        await self.run(verify(resolved))

    async def _send(self, step: Send) -> Outcome:
        reader = BodyReader(step)
        try:
            async with self._http.stream(**self._request(step)) as answer:
                async for chunk in answer.aiter_bytes():
                    reader.add(chunk)
                return reader.response(answer)
        except (httpx.HTTPError, OSError) as error:  # httpx lets some TLS errors through as they are
            return describe_failure(error, self.settings)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def resolve_model(server: MLflowSettings | MLflowClient, selector: ModelSelector) -> ResolvedModel:
    """Find the model that a selector means now, without Airflow.

    :param server: settings open a connection for this one call; a client keeps its own.
    """
    if isinstance(server, MLflowClient):
        return server.resolve_model(selector)
    with MLflowClient(server) as client:
        return client.resolve_model(selector)


async def aresolve_model(server: MLflowSettings | AsyncMLflowClient, selector: ModelSelector) -> ResolvedModel:
    """The asynchronous twin of :func:`resolve_model`."""
    if isinstance(server, AsyncMLflowClient):
        return await server.resolve_model(selector)
    async with AsyncMLflowClient(server) as client:
        return await client.resolve_model(selector)
