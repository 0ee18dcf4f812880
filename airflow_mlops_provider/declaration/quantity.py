"""Kubernetes quantities and durations as people write them: ``500m``, ``4Gi``, ``2h``, ``300ms``.

Decides which spellings are legal and what they amount to. No I/O.
Quantities: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

from airflow_mlops_provider.declaration.wording import quoted

_CPU = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(m?)")
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)(Ki|Mi|Gi|Ti|k|M|G|T|)")
_MEMORY_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
DURATION = re.compile(r"(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,8})s)?(?:([0-9]{1,9})ms)?")


def cpu_millicores(text: str) -> int:
    """Return thousandths of a processor: ``"2"`` → 2000, ``"500m"`` → 500.

    :raises ValueError: not a positive CPU quantity.
    """
    found = _CPU.fullmatch(text)
    amount = Decimal(found[1]) * (1 if found[2] else 1000) if found else Decimal(0)
    if amount <= 0 or amount != int(amount):
        raise ValueError(f'{quoted(text)} is not an amount of CPU; write for example "2", "0.5" or 500m')
    return int(amount)


def memory_bytes(text: str) -> int:
    """Return bytes: ``"4Gi"`` → 4294967296.

    :raises ValueError: not a positive memory quantity.
    """
    found = _MEMORY.fullmatch(text)
    amount = int(Decimal(found[1]) * _MEMORY_UNITS[found[2]]) if found else 0
    if amount <= 0:
        raise ValueError(f"{quoted(text)} is not an amount of memory; write for example 512Mi or 4Gi")
    return amount


def parse_duration(text: str) -> timedelta:
    """Return the duration: ``2h``, ``15m``, ``1h30m``, ``7d``, ``300ms``.

    :raises ValueError: no unit, an unknown one, or units not from large to small.
    """
    found = DURATION.fullmatch(text) if text else None
    if found is None:
        raise ValueError(f"{quoted(text)} is not a duration; write for example 30s, 15m, 2h, 1h30m or 7d")
    days, hours, minutes, seconds, milliseconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)


def format_duration(value: timedelta) -> str:
    """Return the shortest spelling that :func:`parse_duration` reads back."""
    rest = round(value / timedelta(milliseconds=1))
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"
