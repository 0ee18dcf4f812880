"""A proxy in front of the API server that loses the reply to a pod's first create request, as a network does."""

from __future__ import annotations

import http.client
import http.server
import json
import ssl
import threading
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class LossyProxy:
    """``with LossyProxy(configuration) as proxy: proxy.url``; plain HTTP in front, TLS and the token behind."""

    def __init__(self, configuration: Any) -> None:
        target = urlsplit(configuration.host)
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        token = configuration.auth_settings()["BearerToken"]["value"]
        self.lost: list[str] = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream = http.client.HTTPSConnection(target.hostname or "", target.port, context=context)
                headers = {
                    key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")
                }
                headers["Authorization"] = token
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                if proxy._loses(self.command, self.path, body, answer.status):
                    answer.read()
                    self.close_connection = True
                    self.connection.close()
                    return
                self._relay(answer)
                upstream.close()

            def _relay(self, answer: http.client.HTTPResponse) -> None:
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in _HOP_BY_HOP:
                        self.send_header(key, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while chunk := answer.read1(65536):
                    self.wfile.write(chunk)
                    self.wfile.flush()
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _loses(self, method: str, path: str, body: bytes, status: int) -> bool:
        if method != "POST" or not path.partition("?")[0].endswith("/pods") or status != http.client.CREATED:
            return False
        self.lost.append(json.loads(body)["metadata"]["name"])
        return True

    def __enter__(self) -> LossyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
