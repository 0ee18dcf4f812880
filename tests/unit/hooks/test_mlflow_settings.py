"""Addresses, credentials, what is shown and what is not."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.hooks.mlflow_settings import SERVICE_ACCOUNT_TOKEN_PATH, MLflowSettings


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("HTTPS://mlflow/", "https://mlflow"),
        ("https://mlflow/prefix/", "https://mlflow/prefix"),
        (" http://mlflow:5000 ", "http://mlflow:5000"),
        ("http://u:p@mlflow:5000", "http://mlflow:5000"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_address_is_normalised_and_keeps_no_credentials(given: str, kept: str) -> None:
    assert MLflowSettings(tracking_uri=given).tracking_uri == kept


@pytest.mark.parametrize("uri", ["", "mlflow:5000", "file:///mlruns", "sqlite:///x.db", "http://", "http://h:99999"])
def test_address_that_is_no_server_says_what_to_write(uri: str) -> None:
    with pytest.raises(PermanentError, match=r"use http\(s\)://host"):
        MLflowSettings(tracking_uri=uri)


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile"])
def test_databricks_is_refused_clearly(uri: str) -> None:
    with pytest.raises(PermanentError, match="'databricks' is not supported by this hook yet"):
        MLflowSettings(tracking_uri=uri)


def test_no_secret_is_shown() -> None:
    settings = MLflowSettings(tracking_uri="http://u:hidden1@mlflow", token="hidden2", password="hidden3")
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings)
    with pytest.raises(PermanentError) as caught:
        MLflowSettings(tracking_uri="ftp://u:hidden4@mlflow")
    assert "hidden" not in str(caught.value)


def _basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("fields", "authorization"),
    [
        ({}, None),
        ({"username": "ann", "password": "s:e"}, _basic("ann:s:e")),
        ({"username": "анна", "password": "пароль"}, _basic("анна:пароль")),
        ({"tracking_uri": "http://ann:p%40ss@mlflow"}, _basic("ann:p@ss")),
        ({"token": "abc", "username": "ann"}, "Bearer abc"),
    ],
)
def test_authorization_header(fields: dict[str, Any], authorization: str | None) -> None:
    settings = MLflowSettings(**{"tracking_uri": "http://mlflow", **fields})
    assert settings.headers().get("Authorization") == authorization


def test_workspace_header_only_where_it_is_set() -> None:
    assert MLflowSettings(tracking_uri="http://mlflow").headers() == {}
    assert MLflowSettings(tracking_uri="http://mlflow", workspace="ds").headers() == {"X-MLFLOW-WORKSPACE": "ds"}


def test_service_account_token_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = MLflowSettings(tracking_uri="http://mlflow", service_account_token=str(file))
    for value in ("first", "second"):
        file.write_text(value + "\n")
        assert settings.headers() == {"Authorization": f"Bearer {value}"}
    file.unlink()
    with pytest.raises(PermanentError, match="cannot be read"):
        settings.headers()


def test_environment_speaks_mlflows_names() -> None:
    settings = MLflowSettings.from_environment(
        {
            "MLFLOW_TRACKING_URI": "https://mlflow",
            "MLFLOW_TRACKING_USERNAME": "ann",
            "MLFLOW_TRACKING_PASSWORD": "secret",
            "MLFLOW_TRACKING_SERVER_CERT_PATH": "/ca.pem",
            "MLFLOW_TRACKING_CLIENT_CERT_PATH": "/client.pem",
            "MLFLOW_TRACKING_INSECURE_TLS": "true",
            "MLFLOW_WORKSPACE": "ds",
        }
    )
    assert (settings.username, settings.password, settings.ca_cert) == ("ann", "secret", "/ca.pem")
    assert (settings.client_cert, settings.verify_tls, settings.workspace) == ("/client.pem", False, "ds")
    kubernetes = {"MLFLOW_TRACKING_URI": "https://mlflow", "MLFLOW_TRACKING_AUTH": "kubernetes"}
    assert MLflowSettings.from_environment(kubernetes).service_account_token == SERVICE_ACCOUNT_TOKEN_PATH


def test_environment_without_a_server_says_what_to_set() -> None:
    with pytest.raises(PermanentError, match="set MLFLOW_TRACKING_URI"):
        MLflowSettings.from_environment({})
    assert MLflowSettings.from_environment({}, tracking_uri="http://given").tracking_uri == "http://given"


def test_credential_variables_are_the_inverse_of_the_environment() -> None:
    given = MLflowSettings(tracking_uri="http://mlflow", username="ann", password="p", workspace="ds", verify_tls=False)
    variables = {"MLFLOW_TRACKING_URI": given.tracking_uri, **given.credential_variables()}
    assert MLflowSettings.from_environment(variables) == given


def test_pages() -> None:
    settings = MLflowSettings(tracking_uri="http://mlflow/prefix")
    assert settings.run_page_url("7", "abc") == "http://mlflow/prefix/#/experiments/7/runs/abc"
    assert settings.model_page_url(name="a b/c", version="3") == "http://mlflow/prefix/#/models/a%20b%2Fc/versions/3"
    logged = settings.model_page_url(experiment_id="7", model_id="m-1", name="model")
    assert logged == "http://mlflow/prefix/#/experiments/7/models/m-1"
    assert settings.model_page_url(experiment_id="7", name="model") is None
