from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_mlops_provider.operators.interval import data_interval, hand_on_interval, interval_context

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def context(**values: Any) -> Any:
    return {"dag_run": SimpleNamespace(run_after=NOON), "params": {}, **values}


def test_run_without_interval_covers_the_moment_it_was_asked_for() -> None:
    assert data_interval(context(), use_run_params=True) == (NOON, NOON)


def test_interval_from_parameters_wins_and_naive_means_utc() -> None:
    params = {"data_interval_start": "2025-12-01T00:00:00", "data_interval_end": "2025-12-02T00:00:00+00:00"}
    start, end = data_interval(context(params=params), use_run_params=True)
    assert (start, end) == (datetime(2025, 12, 1, tzinfo=UTC), datetime(2025, 12, 2, tzinfo=UTC))
    assert data_interval(context(params=params), use_run_params=False) == (NOON, NOON)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"data_interval_start": "yesterday"}, "is not ISO 8601"),
        ({"data_interval_start": "2026-02-01T00:00:00", "data_interval_end": "2026-01-01T00:00:00"}, "is before"),
    ],
)
def test_impossible_intervals_are_named(params: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_interval(context(params=params), use_run_params=True)


def test_run_without_logical_date_still_has_ds() -> None:
    assert interval_context(context(), use_run_params=True)["ds"] == "2026-01-02"


def test_ds_follows_the_interval_that_was_asked_for() -> None:
    own = context(data_interval_start=NOON, data_interval_end=NOON, ds="2026-01-02")
    assert interval_context(own, use_run_params=True)["ds"] == "2026-01-02"
    asked = {**own, "params": {"data_interval_start": "2025-12-01T00:00:00", "data_interval_end": None}}
    rendered = interval_context(asked, use_run_params=True)
    assert (rendered["ds"], rendered["ds_nodash"]) == ("2025-12-01", "20251201")


def run_of(start: datetime | None, logical_date: datetime | None = None) -> Any:
    return SimpleNamespace(
        data_interval_start=start, data_interval_end=start and start + DAY, logical_date=logical_date or start
    )


def event(source: Any = None, **extra: Any) -> Any:
    return SimpleNamespace(extra=extra, source_dag_run=source)


def started_by(*events: Any) -> Any:
    groups = defaultdict(list)
    for number, item in enumerate(events):
        groups[Asset(f"asset-{number % 2}")].append(item)
    return context(triggering_asset_events=groups)


@pytest.mark.parametrize(
    "events",
    [
        [event(run_of(NOON - 3 * DAY))],
        [event(run_of(NOON - 4 * DAY)), event(run_of(NOON - 3 * DAY)), event(run_of(NOON - 5 * DAY))],
        [event(run_of(None)), event(run_of(NOON - 3 * DAY))],
        [event(data_interval_start="2025-12-30T12:00:00+00:00", data_interval_end="2025-12-31T12:00:00+00:00")],
        [event(), event(run_of(NOON - 3 * DAY))],
    ],
)
def test_a_run_that_assets_started_covers_what_the_newest_source_covered(events: list[Any]) -> None:
    started = started_by(*events)
    assert data_interval(started, use_run_params=True) == (NOON - 3 * DAY, NOON - 2 * DAY)
    assert interval_context(started, use_run_params=True)["ds"] == "2025-12-30"


@pytest.mark.parametrize("events", [[], [event()], [event(run_of(None))]])
def test_without_a_source_that_has_one_it_is_the_moment(events: list[Any]) -> None:
    assert data_interval(started_by(*events), use_run_params=True) == (NOON, NOON)


def test_the_logical_date_is_inherited_too_because_ds_is_made_of_it() -> None:
    started = started_by(event(run_of(NOON - 3 * DAY, logical_date=NOON - DAY)))
    assert interval_context(started, use_run_params=True)["ds"] == "2026-01-01"


def test_parameters_win_over_what_is_inherited() -> None:
    started = {**started_by(event(run_of(NOON - 3 * DAY))), "params": {"data_interval_start": "2025-12-01T00:00:00"}}
    assert interval_context(started, use_run_params=True)["ds"] == "2025-12-01"


def test_the_interval_travels_along_a_chain_of_assets() -> None:
    first = context(data_interval_start=NOON - 3 * DAY, data_interval_end=NOON - 2 * DAY, logical_date=NOON - DAY)
    for _ in range(2):
        first["outlet_events"] = OutletEventAccessors()
        hand_on_interval(first, [Asset("scores"), object()], use_run_params=True)
        extra = first["outlet_events"][Asset("scores")].extra
        first = started_by(event(run_of(None), **extra))
    assert data_interval(first, use_run_params=True) == (NOON - 3 * DAY, NOON - 2 * DAY)
    assert interval_context(first, use_run_params=True)["ds"] == "2026-01-01"


def test_a_task_without_assets_needs_no_interval() -> None:
    hand_on_interval({}, [], use_run_params=True)  # type: ignore[typeddict-item]


def test_a_foreign_event_with_a_broken_interval_is_named() -> None:
    broken = event(data_interval_start="yesterday", data_interval_end="today")
    with pytest.raises(ValueError, match="data_interval_start: 'yesterday' is not ISO 8601"):
        data_interval(started_by(broken), use_run_params=True)
