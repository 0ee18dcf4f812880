"""A real MLflow server with basic authentication: who may see what, and what is said to those who may not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_mlops_provider.declaration.selector import ModelSelector
from airflow_mlops_provider.exceptions import AccessDeniedError, MLOpsProviderError
from airflow_mlops_provider.hooks.mlflow import MLflowHook
from airflow_mlops_provider.hooks.mlflow_client import resolve_model
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

pytestmark = pytest.mark.integration

ADMIN = ("admin", "admin-password-1")
READER = ("reader", "reader-password-1")
STRANGER = ("stranger", "stranger-password-1")
PROD = ModelSelector(experiment="secret", run_tag={"stage": "prod"})


@pytest.fixture(scope="module")
def server(mlflow_auth_server: Any, train_model: Any) -> Any:
    """A trained model that ``reader`` may read and ``stranger`` may not."""
    run = train_model(mlflow_auth_server.url, "secret", tags={"stage": "prod"}, credentials=ADMIN)
    api = f"{mlflow_auth_server.url}/api/2.0/mlflow/"
    for name, password in (READER, STRANGER):
        body = {"username": name, "password": password}
        httpx.post(api + "users/create", json=body, auth=ADMIN, timeout=60).raise_for_status()
    grant = {
        "username": READER[0],
        "permission": "READ",
        "resource_type": "experiment",
        "resource_id": run.experiment_id,
    }
    path = api.replace("2.0", "3.0") + "users/permissions/grant"
    answer = httpx.post(path, json=grant, auth=ADMIN, timeout=60)
    assert answer.is_success, answer.text
    return mlflow_auth_server


def settings(server: Any, user: tuple[str, str] | None) -> MLflowSettings:
    name, password = user or (None, None)
    return MLflowSettings(
        tracking_uri=server.url, username=name, password=password, timeout_seconds=60, total_seconds=120
    )


@pytest.mark.parametrize("user", [ADMIN, READER])
def test_reader_resolves(server: Any, user: tuple[str, str]) -> None:
    found = resolve_model(settings(server, user), PROD)
    assert found.uri == f"models:/{found.model_id}"
    assert user[1] not in json.dumps(found.to_dict())


@pytest.mark.parametrize("user", [None, ("admin", "wrong-password"), ("nobody", "nothing")])
def test_wrong_credentials(server: Any, user: tuple[str, str] | None) -> None:
    with pytest.raises(AccessDeniedError, match=r"\(401\); check token or username and password") as caught:
        resolve_model(settings(server, user), PROD)
    assert not user or user[1] not in str(caught.value)


def test_no_permission_says_whom_to_grant_what(server: Any) -> None:
    with pytest.raises(AccessDeniedError, match=r"experiment 'secret': .*\(403\).* grant .* READ"):
        resolve_model(settings(server, STRANGER), PROD)


def test_one_user_never_learns_what_another_may_see(server: Any) -> None:
    resolve_model(settings(server, READER), PROD)
    with pytest.raises(MLOpsProviderError):
        resolve_model(settings(server, STRANGER), PROD)


@pytest.mark.parametrize(
    ("password", "works", "words"), [(READER[1], True, "MLflow 3."), ("wrong-password-1", False, "(401)")]
)
def test_connection_test_says_what_is_wrong(
    server: Any, monkeypatch: pytest.MonkeyPatch, password: str, works: bool, words: str
) -> None:
    connection = {"conn_type": "mlflow", "host": server.url, "login": READER[0], "password": password}
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
    found, message = MLflowHook().test_connection()
    assert (found, words in message, password in message) == (works, True, False)
