"""Where an MLflow server is and how to prove who is asking: ``MLflowSettings``, and the pages of its UI.

Decides how addresses are normalised (credentials never stay inside one), which environment variables count (MLflow's
own) and what a settings object shows of itself (no secret). Leaves sending to :mod:`.mlflow_client` and Airflow
connections to
:mod:`.mlflow`. Imports neither Airflow nor httpx; the only I/O is reading a service-account token when a header is
    built.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from airflow_mlops_provider.exceptions import PermanentError

#: Where Kubernetes mounts the token of a pod's service account.
SERVICE_ACCOUNT_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path, no secret
SERVICE_ACCOUNT_NAMESPACE_PATH = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

#: One request; MLflow's own default is 120 s with 7 tries, too long for a worker slot.
DEFAULT_TIMEOUT_SECONDS = 10.0
#: A whole resolution, all tries and waits included.
DEFAULT_TOTAL_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class MLflowSettings:
    """Describe one MLflow server and the caller's credentials. Secrets are left out of ``repr``.

    :param tracking_uri: ``http(s)://host[:port][/prefix]``; user and password inside it are moved to their own fields.
    :param token: bearer token; wins over ``service_account_token``, which wins over ``username`` and ``password``.
    :param ca_cert: PEM file (or PEM text) of the authority that signed the server's certificate.
    :param client_cert: PEM file; with ``client_key`` or holding the key as well.
    :param workspace: value of ``X-MLFLOW-WORKSPACE``. Only where the server has workspaces: others answer 500 to the
        header.
    :param service_account_token: path of a file read anew for every request, because Kubernetes rotates it.
    :param timeout_seconds: for one request.
    :param total_seconds: for one resolution, retries and waits included.
    :raises PermanentError: the address is none that this hook can speak to.
    """

    tracking_uri: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    verify_tls: bool = True
    workspace: str | None = None
    service_account_token: str | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    total_seconds: float = DEFAULT_TOTAL_SECONDS

    def __post_init__(self) -> None:
        parts = urlsplit(self.tracking_uri.strip())
        _check_address(self.tracking_uri.strip())
        host = parts.netloc.rpartition("@")[2]
        if parts.username and not (self.username or self.token):
            object.__setattr__(self, "username", unquote(parts.username))
            object.__setattr__(self, "password", unquote(parts.password or ""))
        clean = urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), "", ""))
        object.__setattr__(self, "tracking_uri", clean)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **overrides: str | None) -> MLflowSettings:
        """Read MLflow's own variables, so that a shell that serves ``mlflow`` serves this project too.

        :param environ: other than the process's own, for tests.
        :param overrides: fields that win over the environment, for example ``tracking_uri=…`` from a command line.
        :raises PermanentError: ``MLFLOW_TRACKING_URI`` is missing or unusable.
        """
        env = os.environ if environ is None else environ
        auth = env.get("MLFLOW_TRACKING_AUTH", "")
        found: dict[str, str | None] = {
            "tracking_uri": env.get("MLFLOW_TRACKING_URI"),
            "username": env.get("MLFLOW_TRACKING_USERNAME"),
            "password": env.get("MLFLOW_TRACKING_PASSWORD"),
            "token": env.get("MLFLOW_TRACKING_TOKEN"),
            "ca_cert": env.get("MLFLOW_TRACKING_SERVER_CERT_PATH"),
            "client_cert": env.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
            "workspace": env.get("MLFLOW_WORKSPACE") or _namespace(auth),
            "service_account_token": SERVICE_ACCOUNT_TOKEN_PATH if auth.startswith("kubernetes") else None,
        }
        found |= {key: value for key, value in overrides.items() if value is not None}
        chosen = {key: value for key, value in found.items() if value}
        if "tracking_uri" not in chosen:
            raise PermanentError(
                "no MLflow server is named: set MLFLOW_TRACKING_URI, for example http://mlflow.example:5000"
            )
        insecure = env.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
        return cls(verify_tls=not insecure, **chosen)  # type: ignore[arg-type]  # only str fields are in `chosen`

    def headers(self) -> dict[str, str]:
        """Build the headers that say who asks. Reads the service-account token, if that is how.

        :raises PermanentError: the token file cannot be read.
        """
        headers = {"X-MLFLOW-WORKSPACE": self.workspace} if self.workspace else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self.service_account_token:
            headers["Authorization"] = f"Bearer {_read_token(self.service_account_token)}"
        elif self.username:
            pair = f"{self.username}:{self.password or ''}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def credential_variables(self) -> dict[str, str]:
        """Return MLflow's own variables for a child process that shares this user. They are secrets: never log them."""
        found = {
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
            "MLFLOW_TRACKING_TOKEN": self.token,
            "MLFLOW_TRACKING_SERVER_CERT_PATH": self.ca_cert,
            "MLFLOW_TRACKING_CLIENT_CERT_PATH": self.client_cert,
            "MLFLOW_TRACKING_INSECURE_TLS": None if self.verify_tls else "true",
            "MLFLOW_WORKSPACE": self.workspace,
        }
        if self.service_account_token and not self.token:
            found["MLFLOW_TRACKING_TOKEN"] = _read_token(self.service_account_token)
        return {name: value for name, value in found.items() if value}

    def run_page_url(self, experiment_id: str, run_id: str) -> str:
        """Return the address of a run's page in the MLflow UI."""
        return f"{self.tracking_uri}/#/experiments/{quote(experiment_id, safe='')}/runs/{quote(run_id, safe='')}"

    def model_page_url(
        self,
        *,
        experiment_id: str | None = None,
        model_id: str | None = None,
        name: str = "",
        version: str | None = None,
    ) -> str | None:
        """Return the address of the registered version's page, else of the logged model's page, else None."""
        if version:
            return f"{self.tracking_uri}/#/models/{quote(name, safe='')}/versions/{quote(version, safe='')}"
        if model_id and experiment_id:
            return (
                f"{self.tracking_uri}/#/experiments/{quote(experiment_id, safe='')}/models/{quote(model_id, safe='')}"
            )
        return None


def _check_address(uri: str) -> None:
    if uri.split(":")[0].split("/")[0] == "databricks":
        raise PermanentError(
            "tracking URI 'databricks' is not supported by this hook yet; it speaks to MLflow servers at http(s):// "
            "addresses"
        )
    try:
        parts = urlsplit(uri)
        usable = (
            parts.scheme.lower() in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable:
        shown = uri.rpartition("@")[2]
        raise PermanentError(
            f"tracking URI {shown!r} is not the address of an MLflow server; use http(s)://host[:port], for example "
            f"http://mlflow.example:5000"
        )


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PermanentError(
            f"service-account token {path} cannot be read ({error.strerror}); run inside a pod that mounts one, or "
            f"name another file"
        ) from error
    if not token:
        raise PermanentError(f"service-account token {path} is empty")
    return token


def _namespace(auth: str) -> str | None:
    """``kubernetes-namespaced`` takes the workspace from the pod's namespace."""
    if auth != "kubernetes-namespaced":
        return None
    try:
        return Path(SERVICE_ACCOUNT_NAMESPACE_PATH).read_text(encoding="utf-8").strip()
    except OSError:
        return None
