"""Which schedules exist: five-field cron expressions, the presets of Airflow, IANA time zones.

Decides what is legal, so that a typing error is found in CI and not by the scheduler. When a run is due is Airflow's
business. Reads the time zone database of the system, nothing else.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from airflow_mlops_provider.declaration.wording import advice, choices, quoted

PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"(\*|[0-9a-z]{1,3}(?:-[0-9a-z]{1,3})?)(?:/([0-9]{1,2}))?")
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_MAX_LENGTH = 200
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def check_cron(expression: str) -> str:
    """Return the expression with single spaces, or the preset.

    :raises ValueError: it names no schedule, or one that never comes.
    """
    if expression.startswith("@"):
        if expression not in PRESETS:
            hint = "leave the schedule out or write null" if expression == "@none" else advice(expression, PRESETS)
            raise ValueError(f"{quoted(expression)} is not a preset; {hint}")
        return expression
    fields = expression.split()
    if len(fields) != len(_FIELDS) or len(expression) > _MAX_LENGTH:
        raise ValueError(_not_five_fields(expression, len(fields)))
    values = [_expand(field.lower(), *spec) for field, spec in zip(fields, _FIELDS, strict=True)]
    _check_some_day_exists(expression, values[2], values[3], any_weekday=fields[4] == "*")
    return " ".join(fields)


def _not_five_fields(expression: str, count: int) -> str:
    if f"@{expression.lower()}" in PRESETS:
        return f'{quoted(expression)} is not a schedule; write "@{expression.lower()}"'
    if time := _CLOCK.fullmatch(expression):
        daily = f'"{int(time[2])} {int(time[1])} * * *"'
        return f"{quoted(expression)} is not a schedule; for every day at that time write {daily}"
    found = f"{count} field" if count == 1 else f"{count} fields"
    return f'{quoted(expression)} has {found}; cron has five, minute hour day month weekday: "0 3 * * *"'


def check_timezone(name: str) -> str:
    """Return the IANA time zone's name.

    :raises ValueError: there is no such zone.
    """
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # directories, paths that leave the database, unknown keys
        raise ValueError(f"{quoted(name)} is not an IANA time zone; {_zone_advice(name)}") from None
    return name


def _zone_advice(name: str) -> str:
    """Name several: that one of hundreds of zones is spelt most alike says little about which was meant."""
    spelt = {zone.lower(): zone for zone in sorted(available_timezones())}
    close = get_close_matches(name.lower(), spelt, n=3, cutoff=0.6)
    meant = f"did you mean {choices(quoted(spelt[zone]) for zone in close)}?"
    return meant if close else "write for example Europe/Moscow or UTC"


def _expand(text: str, name: str, lowest: int, highest: int, names: dict[str, int]) -> set[int]:
    if text == "*":
        return set(range(lowest, highest + 1))
    values: set[int] = set()
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(f"{quoted(part)} is no {name}; write a number, *, a-b, */n or a list of them")
        if found[1] == "*":
            first, last = lowest, highest
        else:
            ends = [_number(end, name, lowest, highest, names) for end in found[1].split("-")]
            first, last = ends[0], (ends[-1] if len(ends) == 2 or not found[2] else highest)
        step = int(found[2] or 1)
        if first > last or step == 0:
            raise ValueError(
                f"{quoted(part)} is an empty range of the {name}; write it from low to high, with a step of at least 1"
            )
        values.update(range(first, last + 1, step))
    return values


def _number(text: str, name: str, lowest: int, highest: int, names: dict[str, int]) -> int:
    value = names.get(text, int(text) if text.isdigit() else -1)
    if not lowest <= value <= highest:
        raise ValueError(
            f"{quoted(text)} is no {name}; use {lowest} to {highest}" + (" or " + ", ".join(names) if names else "")
        )
    return value


def _check_some_day_exists(expression: str, days: set[int], months: set[int], *, any_weekday: bool) -> None:
    longest = max(_LONGEST_MONTH.get(month, 31) for month in months)
    if any_weekday and min(days) > longest:
        raise ValueError(f"{quoted(expression)} never comes: no such month has a day {min(days)}")
