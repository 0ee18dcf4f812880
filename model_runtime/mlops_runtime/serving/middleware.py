"""Around every request: its ID, its line in the log, its place in the metrics, the last net under an error.

Probes and ``/metrics`` that went well are not worth a line. While the server drains, every answer asks the client to
open its next connection elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlops_runtime.serving import metrics
from mlops_runtime.serving.lifecycle import Lifecycle
from mlops_runtime.serving.logs import log
from mlops_runtime.serving.notes import RequestNote, open_note
from mlops_runtime.serving.replies import json_bytes, problem_body

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_INTERNAL_ERROR = 500


def protocol_of(method: str, path: str) -> str:
    """Name the protocol of a request for a prediction; empty for everything else."""
    if method != "POST":
        return ""
    if path == "/invocations":
        return "mlflow"
    if path.startswith("/v1/models/"):
        return "v1"
    return "v2" if path.startswith("/v2/models/") else ""


class RequestMiddleware:
    """Wrap the application."""

    def __init__(self, app: App, lifecycle: Lifecycle, model: str, headers: dict[str, str]) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._model = model
        self._headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        note = open_note(given.decode("latin-1"), protocol_of(scope["method"], scope["path"]))
        note.model = self._model
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._extra_headers(note)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as problem:
            note.reason = note.reason or type(problem).__name__
            log("the server failed", logging.ERROR, problem, request_id=note.request_id, path=scope["path"])
            if status:
                raise
            await _send_internal_error(send_with_headers, note)
        finally:
            self._record(scope, note, status, time.monotonic() - started)

    def _extra_headers(self, note: RequestNote) -> list[tuple[bytes, bytes]]:
        extra = [*self._headers, (b"x-request-id", note.request_id.encode())]
        return [*extra, (b"connection", b"close")] if self._lifecycle.is_draining else extra

    def _record(self, scope: Scope, note: RequestNote, status: int, seconds: float) -> None:
        status = status or 499  # the client went away before it was answered: nginx's code for that
        if note.protocol:
            metrics.count(note, status, seconds)
        elif status < 400:
            return
        fields: dict[str, Any] = {
            "request_id": note.request_id, "model": note.model, "protocol": note.protocol, "method": scope["method"],
            "path": scope["path"], "rows": note.rows, "ms": round(seconds * 1000, 3), "status": status,
        }  # fmt: skip
        if note.reason:
            fields["error"] = note.reason
        log("request", logging.ERROR if status >= _INTERNAL_ERROR else logging.INFO, **fields)


async def _send_internal_error(send: Send, note: RequestNote) -> None:
    body = json_bytes(problem_body(note, _INTERNAL_ERROR, "the server failed; its log has the details under this ID"))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": _INTERNAL_ERROR, "headers": headers})
    await send({"type": "http.response.body", "body": body})
