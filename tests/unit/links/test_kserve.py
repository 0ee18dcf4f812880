"""Which endpoint becomes a button."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom

from airflow_mlops_provider.links.kserve import KServeEndpointLink, push_endpoint_link


@pytest.mark.parametrize(
    ("url", "pushed"),
    [
        ("https://churn.example.com", {"kserve_endpoint_url": "https://churn.example.com"}),
        ("javascript:alert(1)", {}),
        (None, {}),
    ],
)
def test_only_a_web_address_becomes_a_link(url: str | None, pushed: dict[str, str]) -> None:
    found: dict[str, Any] = {}
    instance = SimpleNamespace(xcom_push=lambda key, value: found.update({key: value}))
    push_endpoint_link({"ti": instance}, url)  # type: ignore[typeddict-item]
    assert found == pushed


@pytest.mark.parametrize(
    ("stored", "shown"), [("https://churn.example.com", "https://churn.example.com"), ("ftp://x", ""), (None, "")]
)
def test_link_shows_what_was_pushed(monkeypatch: pytest.MonkeyPatch, stored: str | None, shown: str) -> None:
    link = KServeEndpointLink()
    monkeypatch.setattr(XCom, "get_value", lambda ti_key, key: stored if key == link.xcom_key else "another")
    assert link.get_link(None, ti_key=None) == shown  # type: ignore[arg-type]
