"""When a candidate breaks a bar: at once where nothing can mend it, else at the step's end."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.manifests.canary import (
    Gates,
    Reading,
    Tally,
    check_steps,
    percentile,
    planned_requests,
)

OK = Reading(0.1, rows=[1.0])
FAILED = Reading(0.2, problem="pod p: it answered 500")


def tally(planned: int, distinct: int = 1, **gates: Any) -> Tally:
    return Tally(step=10, planned=planned, distinct=distinct, gates=Gates(**gates))


def add(found: Tally, count: int, *, stable: Reading = OK, candidate: Reading = OK) -> Tally:
    for _ in range(count):
        found.add(stable, candidate)
    return found


def test_measurement_counts_errors_latency_and_agreement() -> None:
    found = add(tally(4, max_error_rate=1.0), 3)
    found.add(Reading(0.3, rows=[1.0]), FAILED)
    assert found.measurement() == {
        "step": 10,
        "requests": 4,
        "errors": 1,
        "error_rate": 0.25,
        "stable_errors": 0,
        "p95_seconds": 0.1,
        "stable_p95_seconds": 0.3,
        "predictions": 3,
        "agreement": 1.0,
    }
    assert found.breach() is None


def test_nothing_measured_is_said_and_not_made_up() -> None:
    found = tally(1).measurement()
    assert (found["p95_seconds"], found["agreement"], found["error_rate"]) == (None, None, 0.0)


def test_first_error_breaks_a_bar_of_zero_at_once() -> None:
    found = add(add(tally(50), 2), 1, candidate=FAILED)
    breach = found.breach()
    assert breach is not None
    assert breach["gate"] == "error rate"
    assert breach["message"] == (
        "error rate is 0.333333, over the bar of 0 (1 of 3 requests, the first: pod p: it answered 500)"
    )


@pytest.mark.parametrize(("failed", "broken"), [(5, False), (6, True)])
def test_errors_are_held_against_the_whole_step(failed: int, broken: bool) -> None:
    found = add(tally(100, max_error_rate=0.05), failed, candidate=FAILED)
    assert (found.breach() is not None) is broken


def test_requests_that_the_stable_version_refuses_as_well_are_named() -> None:
    breach = add(tally(2), 1, stable=FAILED, candidate=FAILED).breach()
    assert breach is not None
    assert "(the stable version failed 1 of them)" in breach["message"]


@pytest.mark.parametrize(("slow", "broken"), [(5, False), (6, True)])
def test_latency_is_the_95th_percentile_of_the_step(slow: int, broken: bool) -> None:
    found = add(tally(100, max_latency_seconds=0.5), slow, candidate=Reading(0.9, rows=[1.0]))
    assert (found.breach() is not None) is broken, "known before the step's end"
    assert (add(found, 100 - slow).breach() is not None) is broken, "and not otherwise at its end"


def test_latency_breach_names_value_and_bar() -> None:
    breach = add(tally(1, max_latency_seconds=0.3), 1, candidate=Reading(0.9, rows=[1.0])).breach()
    assert breach is not None
    assert breach["message"].startswith("latency is 0.9, over the bar of 0.3 (seconds at p95; 1 of 1")


def test_latency_ratio_is_judged_at_the_end_of_the_step() -> None:
    found = add(tally(2, max_latency_ratio=2.0), 1, candidate=Reading(0.3, rows=[1.0]))
    assert found.breach() is None
    breach = add(found, 1, candidate=Reading(0.3, rows=[1.0])).breach()
    assert breach is not None
    assert (breach["gate"], breach["measured"], breach["bar"]) == ("latency ratio", 3.0, 2.0)


def test_disagreement_is_named_with_both_predictions() -> None:
    found = add(tally(10, min_agreement=0.9), 1, candidate=Reading(0.1, rows=[2.0]))
    breach = found.breach()
    assert breach is None, "one of ten may differ"
    breach = add(found, 1, candidate=Reading(0.1, rows=[3.0])).breach()
    assert breach is not None
    assert breach["measured"] == 0.0
    assert "stable 1.0, candidate 2.0" in breach["message"]
    assert "under the bar of 0.9" in breach["message"]


def test_agreement_waits_until_each_request_had_its_turn() -> None:
    found = tally(20, distinct=2, min_agreement=0.9)
    found.add(OK, Reading(0.1, rows=[2.0]))
    big = Reading(0.1, rows=[1.0] * 99)
    assert found.breach() is None
    found.add(big, big)
    assert found.breach() is None, "1 of 100 predictions differs, whatever the first request showed"


def test_agreement_that_cannot_be_measured_is_a_breach() -> None:
    breach = add(tally(1, max_error_rate=1.0, min_agreement=0.9), 1, candidate=FAILED).breach()
    assert breach is not None
    assert breach["message"] == (
        "agreement is not measurable, the bar is 0.9 (no request was answered by both versions)"
    )


def test_agreement_without_a_bar_is_measured_only() -> None:
    found = add(tally(1), 1, candidate=Reading(0.1, rows=[2.0]))
    assert found.breach() is None
    assert found.measurement()["agreement"] == 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), ([0.5], 0.5), ([0.1] * 19 + [9.0], 0.1), ([0.1] * 18 + [9.0, 9.0], 9.0), ([3.0, 1.0, 2.0], 3.0)],
)
def test_percentile_is_by_nearest_rank(values: list[float], expected: float | None) -> None:
    assert percentile(values) == expected


@pytest.mark.parametrize(
    ("step", "scaled", "planned"), [(10, True, 10), (1, True, 1), (99, True, 99), (10, False, 100)]
)
def test_step_is_a_share_of_the_probes_where_no_traffic_is_divided(step: int, scaled: bool, planned: int) -> None:
    assert planned_requests(step, 100, scaled=scaled) == planned


@pytest.mark.parametrize("steps", [(0,), (100,), (50, 10), (10, 10), ("10",), (True,)])
def test_steps_that_cannot_be_right_are_refused(steps: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="steps"):
        check_steps(steps)


def test_steps_may_be_none_at_all() -> None:
    assert check_steps([]) == ()
    assert check_steps([10, 50]) == (10, 50)


@pytest.mark.parametrize(
    "gates",
    [
        {"max_error_rate": 1.5},
        {"min_agreement": 95},
        {"max_latency_seconds": 0},
        {"max_latency_ratio": -1},
        {"tolerance": -1},
    ],
)
def test_gates_that_cannot_be_right_are_refused(gates: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(gates))):
        Gates(**gates)
