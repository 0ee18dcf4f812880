"""From SIGTERM to the end without a failed request.

Kubernetes sends SIGTERM at the moment it begins to take the pod out of its services; clients learn of it later. So the
server first *drains*: it is no longer ready, but answers as before and closes each connection after its answer. Then it
stops to listen, and running requests finish. https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from mlops_runtime.serving.logs import log


class Lifecycle:
    """Whether this process should get new clients."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self.is_draining = False

    @contextlib.asynccontextmanager
    async def span(self, app: Any) -> AsyncIterator[None]:
        """Take SIGTERM from uvicorn while the application runs, and hand it back when the drain is over."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        uvicorn_stop = signal.getsignal(signal.SIGTERM)
        loop = asyncio.get_running_loop()

        def stop(number: int, frame: Any) -> None:
            if not callable(uvicorn_stop):
                raise SystemExit(128 + number)
            if self.is_draining:  # asked twice: at once
                uvicorn_stop(number, frame)
                return
            self.is_draining = True
            loop.call_soon_threadsafe(begin_drain, number, uvicorn_stop)

        def begin_drain(number: int, then: Callable[[int, Any], Any]) -> None:
            log("draining", seconds=self._drain_seconds)
            loop.call_later(self._drain_seconds, then, number, None)

        signal.signal(signal.SIGTERM, stop)
        yield
