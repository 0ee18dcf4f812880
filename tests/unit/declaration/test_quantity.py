from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlops_provider.declaration.quantity import cpu_millicores, format_duration, memory_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "millicores"), [("2", 2000), ("0.5", 500), ("500m", 500), ("1.234", 1234), ("64", 64000)]
)
def test_cpu(text: str, millicores: int) -> None:
    assert cpu_millicores(text) == millicores


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-1", "1.5m", "2 ", "two", "1e3", "1Gi", ".5", "inf", "nan", "٣", "1\n"]
)
def test_not_a_cpu(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of CPU; write"):
        cpu_millicores(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512Mi", 512 * 2**20), ("4Gi", 2**32), ("1.5Gi", 3 * 2**29), ("1G", 10**9), ("1000", 1000), ("1k", 1000)],
)
def test_memory(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "0", "0Gi", "4GB", "4gi", "4 Gi", "-1Gi", "inf", "1m", "4Gi\n"])
def test_not_a_memory(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of memory; write"):
        memory_bytes(text)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("300ms", timedelta(milliseconds=300)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("7d", timedelta(days=7)),
        ("0s", timedelta(0)),
        ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
    ],
)
def test_duration(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-2h", "1.5h", "2w", "30m1h", "2H", "PT2H", "2h\n", "9" * 30 + "d"]
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write"):
        parse_duration(text)
