"""What an answer means."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.exceptions import AccessDeniedError, NotMLflowError, TransientError
from airflow_mlops_provider.hooks.mlflow_api import (
    ApiError,
    Response,
    call,
    check_server,
    fetch,
    get,
    raise_for_error,
    read_json,
    replay,
)

REQUEST = get("runs/get", "run r")
HTML = b"<!doctype html>\n<html lang=en><title>Sign in</title>"


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (Response(401, b"You are not authenticated.", "text/plain", "http://m/x"), AccessDeniedError, "check token or"),
        (Response(403, b"Permission denied", "text/plain", "http://m/x"), AccessDeniedError, "grant .* READ"),
        (
            Response(403, b"Invalid Host header - possible DNS rebinding attack detected", "text/plain"),
            AccessDeniedError,
            "--allowed-hosts",
        ),
        (
            Response(302, b"", "text/plain", "http://m/x", None, "https://sso/login"),
            NotMLflowError,
            "redirects to https://sso/login",
        ),
        (Response(429, b"slow down", "text/plain", "http://m/x", 3.0), TransientError, "429"),
        (Response(503, HTML, "text/html", "http://m/x"), TransientError, "503: an HTML page"),
        (Response(500, b'{"error_code": "INTERNAL_ERROR", "message": "database"}'), TransientError, "database"),
        (
            Response(500, b'{"error_code": "FEATURE_DISABLED", "message": "no workspaces"}'),
            ApiError,
            "remove the workspace",
        ),
        (Response(501, b"not implemented", "text/plain"), ApiError, "501"),
        (Response(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}'), ApiError, "bad"),
        (Response(404, HTML, "text/html"), ApiError, "404"),
        (Response(405, HTML, "text/html"), NotMLflowError, "login page or a proxy"),
    ],
)
def test_error_and_next_step(response: Response, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        raise_for_error(REQUEST, response)
    assert type(caught.value) is error
    assert "run r" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "message", "missing"),
    [(404, "Run not found", True), (400, "Registered model alias x not found.", True), (400, "bad filter", False)],
)
def test_missing_alias_is_400_and_still_missing(status: int, message: str, missing: bool) -> None:
    assert ApiError(message, status=status, code="").is_not_found is missing


@pytest.mark.parametrize(
    "response",
    [
        Response(200, HTML, "text/html"),
        Response(200, b"{trunc"),
        Response(200, b"[1]"),
        Response(200, b""),
        Response(200, b" <HTML>x", ""),
    ],
)
def test_success_that_is_not_json_is_no_mlflow(response: Response) -> None:
    with pytest.raises(NotMLflowError, match="check the tracking URI"):
        read_json(REQUEST, response)


def test_html_is_no_file() -> None:
    with pytest.raises(NotMLflowError):
        replay(fetch(REQUEST), lambda _: Response(200, HTML, "text/html"))


def test_retry_after_travels_with_the_error() -> None:
    with pytest.raises(TransientError) as caught:
        replay(call(REQUEST), lambda _: Response(429, b"", "", "", 12.0))
    assert caught.value.retry_after_seconds == 12.0


@pytest.mark.parametrize(
    ("version", "told"),
    [(b"3.17.2", "MLflow 3.17.2"), (b"2.22.5\n", "MLflow 2.22.5"), (HTML, "MLflow")],
)
def test_check_names_the_version(answers: Any, version: bytes, told: str) -> None:
    server = answers({"experiments/search": {}, "/version": version})
    assert server.hold(check_server()) == told
