"""Which stretch of time a run covers, where Airflow says so and where it does not.

Decides the interval of a run that has none of its own: that of the run whose assets started it, handed on from job to
job, or else the moment it was asked for. Asks Airflow for that run where the event itself does not tell; no other I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Keys in the ``extra`` of an asset's event. Public: other DAGs may set them, and read them.
START_KEY: Final = "data_interval_start"
END_KEY: Final = "data_interval_end"
LOGICAL_DATE_KEY: Final = "logical_date"


class RunInterval(NamedTuple):
    """What a run covers.

    :param logical_date: what ``ds`` and its relatives are made of; Airflow's own is not always the interval's start.
    """

    start: datetime
    end: datetime
    logical_date: datetime


def data_interval(context: Context, *, use_run_params: bool) -> tuple[datetime, datetime]:
    """Return the interval that a run covers.

    It is the one given as run parameters, the run's own, the newest of the runs that started it by updating an asset,
    or the moment the run was asked for.
    """
    found = _find_interval(context, use_run_params=use_run_params)
    return found.start, found.end


def interval_context(context: Context, *, use_run_params: bool) -> Context:
    """Return *context* with the variables that depend on the interval, for runs that have none of their own too.

    A run that assets started has the ``ds`` of the run that updated them; one that was triggered without a logical
    date, that of the day it was asked for; one whose interval was given as parameters, that of the interval.
    """
    start, end, logical_date = _find_interval(context, use_run_params=use_run_params)
    given = use_run_params and context["params"].get(START_KEY)
    if context.get("data_interval_start") and not given:
        return context
    ds = logical_date.strftime("%Y-%m-%d")
    interval = {
        "data_interval_start": start,
        "data_interval_end": end,
        "logical_date": logical_date,
        "ds": ds,
        "ds_nodash": ds.replace("-", ""),
        "ts": logical_date.isoformat(),
        "ts_nodash": logical_date.strftime("%Y%m%dT%H%M%S"),
    }
    return {**context, **interval}  # type: ignore[typeddict-item]


def hand_on_interval(context: Context, outlets: Sequence[Any], *, use_run_params: bool) -> None:
    """Write the interval into the events of the assets that a task updates, for the runs that they start."""
    from airflow.sdk import Asset

    assets = [outlet for outlet in outlets if isinstance(outlet, Asset)]
    if not assets:
        return
    start, end, logical_date = _find_interval(context, use_run_params=use_run_params)
    for asset in assets:
        context["outlet_events"][asset].extra |= {
            START_KEY: start.isoformat(),
            END_KEY: end.isoformat(),
            LOGICAL_DATE_KEY: logical_date.isoformat(),
        }


def _find_interval(context: Context, *, use_run_params: bool) -> RunInterval:
    start, end, logical_date = _own(context) or max(_inherited(context), default=None) or _moment(context)
    if use_run_params:
        params = context["params"]
        given = _parse_moment(START_KEY, params.get(START_KEY))
        start, logical_date = given or start, given or logical_date
        end = _parse_moment(END_KEY, params.get(END_KEY)) or end
    if end < start:
        raise ValueError(f"data_interval_end ({end.isoformat()}) is before data_interval_start ({start.isoformat()})")
    return RunInterval(start, end, logical_date)


def _own(context: Context) -> RunInterval | None:
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    return RunInterval(start, end, context.get("logical_date") or start) if start and end else None


def _moment(context: Context) -> RunInterval:
    moment = context["dag_run"].run_after or datetime.now(UTC)
    return RunInterval(moment, moment, moment)


def _inherited(context: Context) -> Iterator[RunInterval]:
    """Yield the interval of each run that updated an asset this one waited for."""
    events: Mapping[Any, Sequence[Any]] = context.get("triggering_asset_events") or {}
    for event in (event for group in events.values() for event in group):
        extra = event.extra or {}
        if extra.get(START_KEY) and extra.get(END_KEY):
            start, end, logical_date = (
                _parse_moment(key, str(extra.get(key) or "")) for key in (START_KEY, END_KEY, LOGICAL_DATE_KEY)
            )
        elif run := event.source_dag_run:
            start, end, logical_date = run.data_interval_start, run.data_interval_end, run.logical_date
        else:
            continue
        if start and end:
            yield RunInterval(start, end, logical_date or start)


def _parse_moment(name: str, text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} is not ISO 8601; write 2026-01-31T00:00:00+00:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
