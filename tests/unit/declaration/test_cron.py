from __future__ import annotations

import pytest

from airflow_mlops_provider.declaration.cron import PRESETS, check_cron, check_timezone


@pytest.mark.parametrize(
    "expression",
    [
        "0 3 * * *",
        "*/15 0-6 1,15 jan-mar MON-fri",
        "0 0 29 2 *",
        "0 0 31 2 1",
        "5/10 * * * 7",
        "0 0 * * sun,wed",
        *PRESETS,
    ],
)
def test_legal(expression: str) -> None:
    assert check_cron(expression) == expression


def test_spaces_are_evened_out() -> None:
    assert check_cron("0  3 *  * * ") == "0 3 * * *"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "has 0 fields; cron has five"),
        ("monday", "has 1 field; cron has five"),
        ("Daily", 'write "@daily"'),
        ("12:30", 'write "30 12 * * *"'),
        ("24:30", "has 1 field;"),
        ("0 3 * *", "has 4 fields; cron has five"),
        ("0 0 3 * * *", "has 6 fields; cron has five"),
        ("60 * * * *", "'60' is no minute; use 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * foo *", "'foo' is no month; use 1 to 12 or jan, feb"),
        ("* * * * 8", "'8' is no day of the week"),
        ("*/0 * * * *", "empty range of the minute"),
        ("9-5 * * * *", "empty range of the minute"),
        ("a-b-c * * * *", "'a-b-c' is no minute"),
        ("0 0 30 2 *", "never comes: no such month has a day 30"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("@dayly", "is not a preset; did you mean '@daily'?"),
        ("@none", "leave the schedule out or write null"),
        ("0 3 * * *" + ",1" * 200, "has 5 fields"),
    ],
)
def test_refused(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as refused:
        check_cron(expression)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["UTC", "Europe/Moscow", "America/Argentina/Buenos_Aires"])
def test_timezone(name: str) -> None:
    assert check_timezone(name) == name


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Europe/Moskow", "did you mean 'Europe/Moscow'"),
        ("europe/moscov", "did you mean 'Europe/Moscow'"),
        ("Europe/Moskva", "'Europe/Moscow'"),
        ("", "for example"),
        ("../../etc/passwd", "for example"),
        ("/etc/passwd", "for example"),
        ("Europe", "is not an IANA time zone"),
        ("Moscow time (the usual one)", "for example"),
    ],
)
def test_no_timezone(name: str, advice: str) -> None:
    with pytest.raises(ValueError, match="is not an IANA time zone") as refused:
        check_timezone(name)
    assert advice in str(refused.value)
