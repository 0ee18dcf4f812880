"""How an Airflow connection is read, and what ``test_connection`` says."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.sdk import Connection

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.get_provider_info import get_provider_info
from airflow_mlops_provider.hooks.mlflow import MLflowHook, settings_of
from airflow_mlops_provider.hooks.mlflow_settings import SERVICE_ACCOUNT_TOKEN_PATH


def read(**fields: Any) -> Any:
    extra = fields.pop("extra", {})
    return settings_of(Connection(conn_id="c", conn_type="mlflow", **fields), extra)


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "http://mlflow:5000"}, "http://mlflow:5000"),
        ({"host": "https://mlflow/prefix/"}, "https://mlflow/prefix"),
        ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "mlflow", "schema": "https"}, "https://mlflow"),
        ({"extra": {"tracking_uri": "http://mlflow:5000"}}, "http://mlflow:5000"),
    ],
)
def test_address(fields: dict[str, Any], address: str) -> None:
    assert read(**fields).tracking_uri == address


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"login": "ann", "password": "p"}, {"username": "ann", "password": "p", "token": None}),
        ({"password": "p"}, {"username": None, "token": "p"}),
        ({"password": "p", "extra": {"token": "t"}}, {"token": "t"}),
        (
            {"extra": {"ca_cert": "/ca", "client_cert": "/c", "client_key": "/k"}},
            {"ca_cert": "/ca", "client_key": "/k"},
        ),
        ({"extra": {"workspace": "ds"}}, {"workspace": "ds"}),
        ({"extra": {"service_account_token": True}}, {"service_account_token": SERVICE_ACCOUNT_TOKEN_PATH}),
        ({"extra": {"service_account_token": "/own/token"}}, {"service_account_token": "/own/token"}),
        ({"extra": {"service_account_token": False}}, {"service_account_token": None}),
        ({"extra": {"verify_tls": "false"}}, {"verify_tls": False}),
        ({"extra": {"timeout_seconds": "3", "total_seconds": 9}}, {"timeout_seconds": 3.0, "total_seconds": 9.0}),
        ({"extra": {"token": "", "workspace": None}}, {"token": None, "workspace": None, "verify_tls": True}),
    ],
)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = read(host="http://mlflow", **fields)
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "connection 'c': tracking URI '' is not the address"),
        ({"host": "databricks"}, "connection 'c': .*not supported by this hook yet"),
        ({"host": "http://mlflow", "extra": {"timeout_seconds": "soon"}}, "connection 'c': .*numbers of seconds"),
    ],
)
def test_unusable_connection_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        read(**fields)


def test_hook_reads_the_connection_of_its_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "mlflow", "host": "http://mlflow:5000", "extra": {"token": "t"}}
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
    hook = MLflowHook()
    assert hook.tracking_uri == "http://mlflow:5000"
    assert hook.run_page_url("7", "abc") == "http://mlflow:5000/#/experiments/7/runs/abc"
    assert hook.get_conn() is hook.get_conn()
    hook.close()


async def test_hook_reads_the_connection_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow", "host": "http://mlflow:5000"}')
    hook = MLflowHook()
    assert (await hook.aget_settings()).tracking_uri == "http://mlflow:5000"
    async with await hook.aget_conn() as client:
        assert client.settings is hook.settings


def test_missing_connection_says_how_to_make_one() -> None:
    works, message = MLflowHook("nowhere").test_connection()
    assert not works
    assert "connection 'nowhere' does not exist; create one of type 'mlflow'" in message


def test_test_connection_tries_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow", "host": "http://127.0.0.1:9"}')
    works, message = MLflowHook().test_connection()
    assert (works, "127.0.0.1:9 is unreachable" in message, "after 1 try" in message) == (False, True, True)


@pytest.mark.parametrize("schema", ["provider_info.schema.json", "provider.yaml.schema.json"])
def test_provider_info_fits_airflows_schema(schema: str) -> None:
    document = json.loads((Path(airflow.__file__).parent / schema).read_text())
    if schema.startswith("provider.yaml"):  # what only Airflow's own build adds
        document = {**document, "required": ["name", "package-name", "description"]}
    jsonschema.validate(get_provider_info(), document)


def test_provider_info_names_what_exists() -> None:
    info = get_provider_info()
    kind = info["connection-types"][0]
    module, _, name = kind["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (kind["connection-type"], kind["hook-name"])
    for link in info["extra-links"]:
        module, _, name = link.rpartition(".")
        assert getattr(importlib.import_module(module), name)().name


def test_every_form_field_is_read() -> None:
    values: dict[str, Any] = {"service_account_token": True, "timeout_seconds": 3, "total_seconds": 4}
    plain = read(host="http://mlflow")
    for name in get_provider_info()["connection-types"][0]["conn-fields"]:
        assert read(host="http://mlflow", extra={name: values.get(name, "x")}) != plain, name


def test_provider_info_costs_nothing() -> None:
    code = (
        "import sys, airflow_mlops_provider.get_provider_info; print([m for m in sys.modules if m[:8] == 'airflow.'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_hook_imports_no_mlflow() -> None:
    code = "import sys, airflow_mlops_provider.hooks.mlflow; print('mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip().endswith("False")
