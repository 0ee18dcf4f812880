"""Airflow's door to MLflow: a connection of type ``mlflow`` becomes settings, a selector becomes a model.

Decides how the connection form is read. Leaves which model is meant to :mod:`.mlflow_resolve` and the wire to
:mod:`.mlflow_client`. Does I/O; never imports mlflow, never writes to ``os.environ``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel
from airflow_mlops_provider.exceptions import MLOpsProviderError, PermanentError
from airflow_mlops_provider.hooks.mlflow_api import check_server
from airflow_mlops_provider.hooks.mlflow_client import AsyncMLflowClient, MLflowClient
from airflow_mlops_provider.hooks.mlflow_settings import SERVICE_ACCOUNT_TOKEN_PATH, MLflowSettings

if TYPE_CHECKING:
    from airflow.sdk import Connection

_TEXT_FIELDS = ("token", "ca_cert", "client_cert", "client_key", "workspace")
_NUMBER_FIELDS = ("timeout_seconds", "total_seconds")


class MLflowHook(BaseHook):
    """Resolve models on one MLflow server. Keeps its connections open; not for several threads at once.

    :param mlflow_conn_id: connection of type ``mlflow``; ``docs/connections.md`` describes its fields.
    """

    conn_name_attr = "mlflow_conn_id"
    default_conn_name = "mlflow_default"
    conn_type = "mlflow"
    hook_name = "MLflow"

    def __init__(self, mlflow_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.mlflow_conn_id = mlflow_conn_id
        self._settings: MLflowSettings | None = None
        self._client: MLflowClient | None = None

    @property
    def settings(self) -> MLflowSettings:
        """Read the connection, once.

        :raises PermanentError: there is no such connection, or its fields cannot be used.
        """
        if self._settings is None:
            try:
                connection = self.get_connection(self.mlflow_conn_id)
            except AirflowNotFoundException as error:
                raise _no_connection(self.mlflow_conn_id) from error
            self._settings = settings_of(connection, connection.extra_dejson)
        return self._settings

    async def aget_settings(self) -> MLflowSettings:
        """Read the connection from a triggerer's event loop, where :attr:`settings` would block it."""
        if self._settings is None:
            try:
                connection = await self.aget_connection(self.mlflow_conn_id)
            except AirflowNotFoundException as error:
                raise _no_connection(self.mlflow_conn_id) from error
            # The synchronous property masks secrets through the supervisor, which deadlocks in an event loop.
            self._settings = settings_of(connection, await connection.aextra_dejson())
        return self._settings

    @property
    def tracking_uri(self) -> str:
        """Return the server's address without credentials, fit for ``MLFLOW_TRACKING_URI`` of a container."""
        return self.settings.tracking_uri

    def credential_variables(self) -> dict[str, str]:
        """Return the connection's credentials as environment variables, for a process on this machine and no other."""
        return self.settings.credential_variables()

    def get_conn(self) -> MLflowClient:
        """Return the hook's client; it stays open until :meth:`close`."""
        if self._client is None:
            self._client = MLflowClient(self.settings)
        return self._client

    async def aget_conn(self) -> AsyncMLflowClient:
        """Return a new asynchronous client, to be used in ``async with``."""
        return AsyncMLflowClient(await self.aget_settings())

    def close(self) -> None:
        """Close the hook's connections, if there are any."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def resolve_model(self, selector: ModelSelector) -> ResolvedModel:
        """Find the one model that a selector means now.

        :raises PermanentError: not found, ambiguous, no access, no MLflow server: somebody has to act.
        :raises TransientError: unreachable, 429 or 5xx for longer than the connection's ``total_seconds`` (30).
        """
        return self.get_conn().resolve_model(selector)

    async def aresolve_model(self, selector: ModelSelector) -> ResolvedModel:
        """Do the same as :meth:`resolve_model` in an event loop."""
        async with await self.aget_conn() as client:
            return await client.resolve_model(selector)

    def verify_model(self, resolved: ResolvedModel) -> None:
        """Check before a retry that the pinned model is still what it was.

        :raises ModelChangedError: its run was deleted, or the model is gone or differs.
        """
        self.get_conn().verify_model(resolved)

    async def averify_model(self, resolved: ResolvedModel) -> None:
        """Do the same as :meth:`verify_model` in an event loop."""
        async with await self.aget_conn() as client:
            await client.verify_model(resolved)

    def run_page_url(self, experiment_id: str, run_id: str) -> str:
        """Return the address of a run's page in the MLflow UI."""
        return self.settings.run_page_url(experiment_id, run_id)

    def model_page_url(self, resolved: ResolvedModel) -> str | None:
        """Return the address of the model's page in the MLflow UI: its registered version, else the logged model.

        None for a model in a run's own artifacts (MLflow 2): it has no page of its own.
        """
        return self.settings.model_page_url(
            experiment_id=resolved.experiment_id,
            model_id=resolved.model_id,
            name=resolved.name,
            version=resolved.version,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the server can be used, and if not, what is wrong. One try, no waiting."""
        try:
            with MLflowClient(self.settings) as client:
                found = client.run(check_server(), total_seconds=0)
        except MLOpsProviderError as error:
            return False, str(error)
        return True, f"{found} answers at {self.settings.tracking_uri}"


def settings_of(connection: Connection, extra: Mapping[str, Any]) -> MLflowSettings:
    """Read an Airflow connection.

    The address is ``host`` if that is a URL, else made of ``schema`` (``http`` unless given), ``host`` and ``port``. A
    password without a login is a bearer token. Everything else stands in the extras.

    :raises PermanentError: the fields cannot be used; the message names the connection.
    """
    name = f"connection {connection.conn_id!r}"
    text: dict[str, Any] = {key: str(extra[key]) for key in _TEXT_FIELDS if extra.get(key)}
    if connection.login:
        text |= {"username": connection.login, "password": connection.password}
    elif connection.password:
        text.setdefault("token", connection.password)
    try:
        numbers: dict[str, Any] = {key: float(extra[key]) for key in _NUMBER_FIELDS if extra.get(key)}
        return MLflowSettings(
            tracking_uri=_address(connection, extra),
            service_account_token=_service_account(extra.get("service_account_token")),
            verify_tls=_truth(extra.get("verify_tls"), default=True),
            **text,
            **numbers,
        )
    except ValueError as error:
        raise PermanentError(f"{name}: {' and '.join(_NUMBER_FIELDS)} are numbers of seconds ({error})") from error
    except PermanentError as error:
        raise PermanentError(f"{name}: {error}") from error


def _address(connection: Connection, extra: Mapping[str, Any]) -> str:
    host = str(connection.host or extra.get("tracking_uri") or "")
    if "://" in host or not host or host.startswith("databricks"):
        return host
    port = f":{connection.port}" if connection.port else ""
    return f"{connection.schema or 'http'}://{host}{port}"


def _service_account(value: object) -> str | None:
    """The form has a switch; the extras may also name another file."""
    if isinstance(value, str) and "/" in value:
        return value
    return SERVICE_ACCOUNT_TOKEN_PATH if _truth(value, default=False) else None


def _truth(value: object, *, default: bool) -> bool:
    if value is None or value == "":
        return default
    return str(value).lower() not in ("false", "0", "no", "off")


def _no_connection(conn_id: str) -> PermanentError:
    return PermanentError(
        f"connection {conn_id!r} does not exist; create one of type 'mlflow' (Admin → Connections, or AIRFLOW_CONN_"
        f'{conn_id.upper()}=\'{{"conn_type": "mlflow", "host": "http://mlflow.example:5000"}}\')'
    )
