"""Both clients' share of the wire: TLS contexts, bodies within a time and a size, and what a socket's failure means.

Decides which failures are worth another try (unreachable, broken, late) and which are not (certificates). Leaves
sending to
:mod:`.mlflow_client`. Reads certificate files, does no other I/O.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.hooks.mlflow_api import Response
from airflow_mlops_provider.hooks.mlflow_retry import Failure, Send
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

#: No answer that this project asks for comes near it.
MAX_BODY_BYTES = 64 * 1024 * 1024


class BodyReader:
    """Collect a body within a time and a size: httpx bounds only the pause between two chunks, not their sum."""

    def __init__(self, step: Send) -> None:
        self._deadline = time.monotonic() + step.timeout_seconds
        self._subject = step.request.subject
        self._body = bytearray()

    def add(self, chunk: bytes) -> None:
        self._body += chunk
        if len(self._body) > MAX_BODY_BYTES:
            raise PermanentError(
                f"{self._subject}: the answer is larger than {MAX_BODY_BYTES >> 20} MiB; it is not read on"
            )
        if time.monotonic() > self._deadline:
            raise httpx.ReadTimeout("the body did not arrive in time")

    def response(self, answer: httpx.Response) -> Response:
        headers = answer.headers
        return Response(
            answer.status_code,
            bytes(self._body),
            headers.get("content-type", ""),
            str(answer.url.copy_with(username=None, password=None)),
            _retry_after_seconds(headers.get("retry-after")),
            headers.get("location"),
        )


def tls_context(settings: MLflowSettings) -> ssl.SSLContext:
    """Build the TLS context here: httpx would load certifi's authorities (25 ms) for plain http, too."""
    if settings.tracking_uri.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context = _trusting(settings.ca_cert)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert, settings.client_key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        given = (settings.ca_cert, settings.client_cert, settings.client_key)
        files = ", ".join("PEM text" if _is_pem(file) else file for file in given if file)
        raise PermanentError(
            f"TLS files of MLflow {settings.tracking_uri} cannot be used ({files}): {error}"
        ) from error
    if not settings.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trusting(ca_cert: str | None) -> ssl.SSLContext:
    if not ca_cert:
        return httpx.create_ssl_context()
    return (
        ssl.create_default_context(cadata=ca_cert) if _is_pem(ca_cert) else ssl.create_default_context(cafile=ca_cert)
    )


def _is_pem(text: str) -> bool:
    return "-----BEGIN" in text


def _retry_after_seconds(value: str | None) -> float | None:
    """Read ``Retry-After``: seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def describe_failure(error: httpx.HTTPError | OSError, settings: MLflowSettings) -> Failure:
    address = settings.tracking_uri
    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if tls is not None and not isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Failure(
            "TLS", PermanentError(f"TLS with MLflow {address} failed: {tls.reason or tls}; {_tls_advice(tls)}")
        )
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return Failure(f"MLflow {address} is unreachable ({error or type(error).__name__})")
    if isinstance(error, httpx.TimeoutException):
        return Failure(f"MLflow {address} did not answer in time")
    return Failure(f"the connection to MLflow {address} broke ({error or type(error).__name__})")


def _tls_advice(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}: set the CA certificate of the connection, or renew the server's certificate"
    return "check http:// against https:// in the tracking URI, and the client certificate"
