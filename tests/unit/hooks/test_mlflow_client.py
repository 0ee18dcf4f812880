"""Both clients against a real HTTP server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from airflow_mlops_provider.exceptions import NotMLflowError, PermanentError, TransientError
from airflow_mlops_provider.hooks.mlflow_api import call, get
from airflow_mlops_provider.hooks.mlflow_client import AsyncMLflowClient, MLflowClient
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings
from airflow_mlops_provider.hooks.mlflow_transport import tls_context

Fault = Callable[[BaseHTTPRequestHandler], None]
BODY = b'{"run": 1}'


def answer(status: int = 200, body: bytes = BODY, content_type: str = "application/json", **headers: str) -> Fault:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def truncated(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"run"')
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def hang(handler: BaseHTTPRequestHandler) -> None:
    handler.server.released.wait(20)  # type: ignore[attr-defined]
    handler.close_connection = True


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Never silent for long, never done: a timeout between two chunks does not see it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):  # type: ignore[attr-defined]
        try:
            handler.wfile.write(b" ")
            handler.wfile.flush()
        except OSError:
            return


class FaultServer(ThreadingHTTPServer):
    """Play one fault after the other; the last one stays."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults = list(faults)
        self.released = threading.Event()
        self.seen: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is the point of these tests."""

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.seen.append(dict(self.headers))
        (server.faults.pop(0) if len(server.faults) > 1 else server.faults[0])(self)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., FaultServer]]:
    servers: list[FaultServer] = []

    def start(*faults: Fault) -> FaultServer:
        servers.append(FaultServer(faults))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Ask one question with either client; waits are recorded in ``ask.waits`` and not waited for."""
    waits: list[float] = []

    def conversation() -> Any:
        return call(get("runs/get", "run r"))

    def ask_sync(settings: MLflowSettings, *, really_wait: bool = False) -> Any:
        with MLflowClient(settings, sleep=time.sleep if really_wait else waits.append) as client:
            return client.run(conversation())

    def ask_async(settings: MLflowSettings, *, really_wait: bool = False) -> Any:
        async def note(seconds: float) -> None:
            waits.append(seconds)

        async def run() -> Any:
            async with AsyncMLflowClient(settings, sleep=asyncio.sleep if really_wait else note) as client:
                return await client.run(conversation())

        return asyncio.run(run())

    function: Any = ask_sync if request.param == "sync" else ask_async
    function.waits = waits
    return function  # type: ignore[no-any-return]


def settings(url: str, **fields: Any) -> MLflowSettings:
    return MLflowSettings(**{"tracking_uri": url, "timeout_seconds": 0.4, "total_seconds": 2.0, **fields})


@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        ([answer()], 0),
        ([answer(503), answer(503), answer()], 2),
        ([answer(500, b"<html>proxy", "text/html"), answer()], 1),
        ([reset, answer()], 1),
        ([truncated, answer()], 1),
        ([hang, answer()], 1),
        ([drip, answer()], 1),
    ],
    ids=["healthy", "503 twice", "500 html", "reset", "truncated", "hang", "drip"],
)
def test_passing_fault_is_survived(serve: Any, ask: Any, faults: list[Fault], waits: int) -> None:
    server = serve(*faults)
    assert ask(settings(server.url)) == {"run": 1}
    assert len(ask.waits) == waits


def test_retry_after_is_obeyed(serve: Any, ask: Any) -> None:
    server = serve(answer(429, Retry_After="1"), answer())
    assert ask(settings(server.url)) == {"run": 1}
    assert ask.waits == [1.0]


@pytest.mark.parametrize("fault", [hang, drip, answer(503), reset], ids=["hang", "drip", "503", "reset"])
def test_lasting_fault_is_bounded_in_time(serve: Any, ask: Any, fault: Fault) -> None:
    server, start = serve(fault), time.monotonic()
    with pytest.raises(TransientError, match=r"run r: .*gave up after"):
        ask(settings(server.url, total_seconds=1.0), really_wait=True)
    assert time.monotonic() - start < 3.0


def test_unreachable_server_is_transient_and_named(ask: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TransientError, match=rf"MLflow {url} is unreachable"):
        ask(settings(url, total_seconds=0.5))


def test_unknown_host_is_transient_and_named(ask: Any) -> None:
    with pytest.raises(TransientError, match=r"mlflow\.invalid:5000 is unreachable"):
        ask(settings("http://mlflow.invalid:5000", total_seconds=0.5))


@pytest.mark.parametrize(
    "fault",
    [
        answer(200, b"<!doctype html><title>Sign in", "text/html"),
        answer(200, b"{trunc"),
        answer(200, b"", "text/plain"),
    ],
    ids=["html", "broken json", "empty"],
)
def test_what_is_no_mlflow_is_permanent(serve: Any, ask: Any, fault: Fault) -> None:
    server = serve(fault)
    with pytest.raises(NotMLflowError, match="check the tracking URI"):
        ask(settings(server.url))
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_never_carries_credentials_to_another_host(serve: Any, ask: Any, status: int) -> None:
    other = serve(answer())
    server = serve(answer(status, b"", "text/html", Location=f"{other.url}/login"))
    with pytest.raises(NotMLflowError, match="redirects to"):
        ask(settings(server.url, token="secret-token", workspace="ds"))
    assert server.seen[0]["Authorization"] == "Bearer secret-token"
    assert other.seen == []


def test_no_secret_in_any_error(serve: Any, ask: Any) -> None:
    for fault in (answer(401, b"no"), answer(403, b"no"), answer(503), reset, answer(200, b"x"), answer(404, b"x")):
        server = serve(fault)
        address = server.url.replace("http://", "http://ann:hidden-password@")
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it must not tell
            ask(settings(address, total_seconds=0.3))
        assert "hidden" not in str(caught.value) + repr(caught.value)


def test_https_to_a_plain_server_is_permanent(serve: Any, ask: Any) -> None:
    server = serve(answer())
    with pytest.raises(PermanentError, match="check http:// against https://"):
        ask(settings(server.url.replace("http:", "https:")))


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """A TLS server with its own authority: URL, certificate, key. It wants a client certificate."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, "-out", cert, "-keyout", key, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_REQUIRED
    server = FaultServer([answer()])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    yield server.url.replace("http:", "https:"), str(cert), str(key)
    server.stop()


def test_tls_with_own_authority_and_client_certificate(tls_server: tuple[str, str, str], ask: Any) -> None:
    url, cert, key = tls_server
    with open(cert, encoding="ascii") as file:
        text = file.read()
    for authority in (cert, text):
        asked = settings(url, ca_cert=authority, client_cert=cert, client_key=key, timeout_seconds=5, total_seconds=9)
        assert ask(asked) == {"run": 1}


@pytest.mark.parametrize(
    ("with_ca", "words"),
    [(False, "set the CA certificate of the connection"), (True, "the client certificate")],
)
def test_tls_errors_are_permanent_and_say_what_is_missing(
    tls_server: tuple[str, str, str], ask: Any, with_ca: bool, words: str
) -> None:
    url, cert, _ = tls_server
    with pytest.raises(PermanentError, match=words):
        ask(settings(url, ca_cert=cert if with_ca else None, timeout_seconds=5, total_seconds=9))


def test_unusable_certificate_file_is_named() -> None:
    with pytest.raises(PermanentError, match=r"/nowhere\.pem"):
        tls_context(settings("https://mlflow", ca_cert="/nowhere.pem"))


def test_plain_http_context_trusts_nobody() -> None:
    assert tls_context(settings("http://mlflow")).get_ca_certs() == []


def test_too_large_answer_is_not_read_on(serve: Any, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_mlops_provider.hooks.mlflow_transport.MAX_BODY_BYTES", 1000)
    server = serve(answer(200, json.dumps({"x": "y" * 2000}).encode()))
    with pytest.raises(PermanentError, match="larger than"):
        ask(settings(server.url))


def test_transport_is_injectable() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"path": request.url.path}))
    with MLflowClient(settings("http://mlflow/prefix"), transport=transport) as client:
        assert client.run(call(get("runs/get", "r")))["path"] == "/prefix/api/2.0/mlflow/runs/get"


def test_core_and_clients_need_neither_airflow_nor_mlflow() -> None:
    code = (
        "import sys, airflow_mlops_provider.hooks.mlflow_client;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('airflow', 'mlflow', 'yaml', 'pydantic')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


assert issubclass(FaultServer, socketserver.ThreadingMixIn)  # a hanging answer must not block the next one
