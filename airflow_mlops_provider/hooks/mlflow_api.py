"""MLflow's REST API as values: which requests exist, what their answers mean, which failures may pass.

Decides how an answer is read and which error of :mod:`airflow_mlops_provider.exceptions` it is. Leaves the choice of
a model to
:mod:`.mlflow_resolve`, tries and waits to :mod:`.mlflow_retry`, sockets to :mod:`.mlflow_client`. No I/O, no Airflow,
    no httpx.

Endpoints: https://mlflow.org/docs/3.7.0/api_reference/rest-api.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from airflow_mlops_provider.exceptions import (
    AccessDeniedError,
    NotMLflowError,
    PermanentError,
    TransientError,
)

T = TypeVar("T")

_API = "/api/2.0/mlflow/"
_AJAX = "/ajax-api/2.0/mlflow/"
#: These 5xx answers are about what was asked, not about the server's health.
_PERMANENT_CODES = frozenset({"FEATURE_DISABLED", "NOT_IMPLEMENTED"})
#: How much of a foreign answer goes into a message.
_EXCERPT_CHARS = 200


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request.

    :param path: relative to the tracking URI.
    :param subject: names what is asked for, in messages.
    :param retries_500: False where the server says 500 for a file that is not there; then asking again is no use.
    """

    method: str
    path: str
    subject: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    retries_500: bool = True


@dataclass(frozen=True)
class Response:
    """One complete HTTP answer.

    :param url: where it came from, without credentials.
    :param retry_after_seconds: the server's wish, from ``Retry-After``.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    url: str = ""
    retry_after_seconds: float | None = None
    location: str | None = None

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        return "html" in self.content_type.lower() or self.body[:64].lstrip().lower().startswith(
            (b"<!doctype", b"<html")
        )


#: What is asked is yielded, what is answered is sent in, what was wanted is returned.
Conversation: TypeAlias = Generator[Request, Response, T]


class ApiError(PermanentError):
    """MLflow refused a request with one of its error codes. Resolution turns it into an error that names the model."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def is_not_found(self) -> bool:
        """A missing alias is 400, a missing version 404, a route that this server lacks 404 without a code."""
        return self.status == 404 or (self.status == 400 and "not found" in str(self).lower())


def get(endpoint: str, subject: str, /, **query: str) -> Request:
    return Request(method="GET", path=_API + endpoint, subject=subject, query=query)


def post(endpoint: str, subject: str, /, **body: Any) -> Request:
    return Request(method="POST", path=_API + endpoint, subject=subject, body=body)


def logged_model_file(model_id: str, file: str, subject: str) -> Request:
    """The only route that serves a logged model's files whatever the artifact store; a part of MLflow's own UI."""
    path = f"{_AJAX}logged-models/{model_id}/artifacts/files"
    return Request(method="GET", path=path, subject=subject, query={"artifact_file_path": file}, retries_500=False)


def run_file(run_id: str, file: str, subject: str) -> Request:
    return Request(
        method="GET", path="/get-artifact", subject=subject, query={"run_uuid": run_id, "path": file}, retries_500=False
    )


def version_file(name: str, version: str, file: str, subject: str) -> Request:
    query = {"name": name, "version": version, "path": file}
    return Request(method="GET", path="/model-versions/get-artifact", subject=subject, query=query, retries_500=False)


def call(request: Request) -> Conversation[dict[str, Any]]:
    """Ask and read JSON.

    :raises ApiError: MLflow says no. :raises NotMLflowError: whoever answered is not MLflow.
    """
    response = yield request
    raise_for_error(request, response)
    return read_json(request, response)


def fetch(request: Request) -> Conversation[bytes]:
    """Ask for a file and return its bytes; an HTML page is no file."""
    response = yield request
    raise_for_error(request, response)
    if response.is_html:
        raise _not_mlflow(request, response)
    return response.body


def read_json(request: Request, response: Response) -> dict[str, Any]:
    if response.is_html:
        raise _not_mlflow(request, response)
    try:
        data = json.loads(response.body)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise _not_mlflow(request, response)
    return data


def check_server() -> Conversation[str]:
    """Ask for something that needs access, then for the version; return ``MLflow 3.17.2``, or ``MLflow`` if untold."""
    yield from call(post("experiments/search", "MLflow", max_results=1))
    answer = yield Request(method="GET", path="/version", subject="MLflow")
    told = answer.text.strip() if answer.status == 200 else ""
    return f"MLflow {told}" if re.fullmatch(r"\d+\.\d+[\w.]*", told) else "MLflow"


def raise_for_error(request: Request, response: Response) -> None:
    """Turn an answer that is no success into the error it means."""
    if 200 <= response.status < 300:
        return
    if 300 <= response.status < 400:
        raise NotMLflowError(
            f"{request.subject}: {response.url} redirects to {response.location or 'nowhere'}; redirects to another "
            f"address are not "
            "followed, because credentials must not travel there. Set the tracking URI to the server's final address"
        )
    code, message = _error_of(response)
    if response.status == 401:
        raise AccessDeniedError(
            f"{request.subject}: {_origin(response)} does not accept the credentials (401); check token or username "
            f"and password"
        )
    if response.status == 403:
        raise AccessDeniedError(
            f"{request.subject}: {_origin(response)} refuses access (403): {message}{_hint_403(message)}"
        )
    if is_transient(response):
        raise TransientError(
            f"{request.subject}: {_origin(response)} answered {response.status}: {message}",
            retry_after_seconds=response.retry_after_seconds,
        )
    if response.is_html and response.status != 404:
        raise _not_mlflow(request, response)
    hint = "; remove the workspace from the connection, this server has none" if code == "FEATURE_DISABLED" else ""
    raise ApiError(f"{request.subject}: {message} ({response.status} {code}){hint}", status=response.status, code=code)


def is_transient(response: Response) -> bool:
    """Whether the same request may succeed later."""
    if response.status in (408, 425, 429):
        return True
    return response.status >= 500 and response.status != 501 and _error_of(response)[0] not in _PERMANENT_CODES


def rows(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """MLflow leaves empty lists out of its answers."""
    found = data.get(key) or []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def replay(conversation: Conversation[T], answer: Callable[[Request], Response]) -> T:
    """Hold a conversation with a function in place of a server."""
    reply: Response | None = None
    while True:
        try:
            request = conversation.send(reply)  # type: ignore[arg-type]  # a generator's first send is None
        except StopIteration as stop:
            result: T = stop.value
            return result
        reply = answer(request)


def _error_of(response: Response) -> tuple[str, str]:
    """MLflow's error code and message; authentication failures are plain text, missing routes HTML."""
    try:
        data = json.loads(response.body)
        return str(data["error_code"]), str(data.get("message", ""))
    except (ValueError, KeyError, TypeError):
        excerpt = "an HTML page" if response.is_html else response.text[:_EXCERPT_CHARS].strip()
        return "", excerpt or "an empty answer"


def _hint_403(message: str) -> str:
    if "host header" in message.lower():
        return "; the server does not expect this host name: start it with mlflow server --allowed-hosts <that name>"
    return "; grant the user of this connection READ permission"


def _origin(response: Response) -> str:
    return response.url.partition("?")[0] or "the server"


def _not_mlflow(request: Request, response: Response) -> NotMLflowError:
    what = "an HTML page" if response.is_html else f"{response.text[:_EXCERPT_CHARS]!r}"
    return NotMLflowError(
        f"{request.subject}: {_origin(response)} answered {response.status} with {what}, which is not MLflow's REST "
        f"API; "
        "check the tracking URI (a login page or a proxy may stand before the server)"
    )
