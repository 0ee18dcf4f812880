from __future__ import annotations

import pytest

from airflow_mlops_provider.declaration.yaml_scalar import core_scalar


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "No",
        "off",
        "on",
        "yes",
        "y",
        "12:30",
        "1:30:00",
        "2026-01-31",
        "2026-01-31T00:00:00Z",
        "1_000",
        "0b1",
        "1.2.3",
        "٣",
        "²",
        "+",
        "-",
        ".",
        "1e",
        "0o8",
        "0x",
        "12345678901234567890123",
        "nullable",
        "tRue",
        "=",
        "<<",
        "1 2",
    ],
)
def test_what_is_no_number_or_constant_stays_text(text: str) -> None:
    assert core_scalar(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0xFF", 255),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2.", 2.0),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    found = core_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    assert str(core_scalar(".nan")) == "nan"
