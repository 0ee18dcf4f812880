"""Decides how this package talks to its own API server: plain HTTPS with the admin certificate, JSON in, JSON out.

Only for the cluster that it started itself; a kubeconfig of somebody else may hold anything and is left to kubectl.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from devcluster.layout import Layout


class ApiError(Exception):
    """The API server answered with an error status, or did not answer (``status`` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class ApiClient:
    """A client of one API server, as its admin."""

    def __init__(self, layout: Layout, *, timeout_seconds: float = 10.0) -> None:
        context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        # No proxy, whatever the environment says: the address exists on this machine only.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._url = layout.api_url
        self._timeout_seconds = timeout_seconds

    def text(self, path: str, *, method: str = "GET", body: object = None) -> str:
        """Send one request and return the answer's text.

        :raises ApiError: on an error status, or status 0 when there was no answer.
        """
        return self._send(path, method, None if body is None else json.dumps(body).encode(), "application/json")

    def _send(self, path: str, method: str, data: bytes | None, content_type: str) -> str:
        request = urllib.request.Request(
            self._url + path, data=data, method=method, headers={"Content-Type": content_type}
        )
        try:
            with self._opener.open(request, timeout=self._timeout_seconds) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode(errors="replace")) from error
        except OSError as error:
            raise ApiError(0, str(error)) from error

    def apply(self, path: str, manifest: str) -> None:
        """Apply one YAML or JSON document on the server's side, under this package's name.

        Nobody else's field is in the way: what is applied is the cluster's own equipment.
        """
        query = "?fieldManager=mlops-devcluster&force=true"
        self._send(path + query, "PATCH", manifest.encode(), "application/apply-patch+yaml")

    def json(self, path: str, *, method: str = "GET", body: object = None) -> dict[str, Any]:
        """Send one request and return the answer's JSON object."""
        answer = json.loads(self.text(path, method=method, body=body))
        return answer if isinstance(answer, dict) else {}
