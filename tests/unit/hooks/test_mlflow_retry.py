"""Tries, waits and the bound, with a clock that only our waits move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import PermanentError, TransientError
from airflow_mlops_provider.hooks.mlflow_api import Response, call, get, logged_model_file
from airflow_mlops_provider.hooks.mlflow_retry import Failure, Outcome, RetryPolicy, Send, Wait, hold

OK = Response(200, b'{"run": 1}')
BUSY = Response(503, b"busy", "text/plain", "http://m/x")


class Wire:
    """Give out prepared outcomes; time passes only by waiting and by ``seconds_each``."""

    def __init__(self, outcomes: Sequence[Outcome], *, seconds_each: float = 0.0) -> None:
        self.outcomes = list(outcomes)
        self.now, self.each = 0.0, seconds_each
        self.sent: list[Send] = []
        self.waits: list[float] = []

    def run(self, conversation: Any, *, timeout: float = 10.0, total: float = 30.0) -> Any:
        policy = RetryPolicy(timeout_seconds=timeout, total_seconds=total, clock=lambda: self.now, dice=lambda: 1.0)
        steps = hold(conversation, policy)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Wait):
                self.waits.append(step.seconds)
                self.now += step.seconds
                outcome = None
            else:
                self.sent.append(step)
                self.now += min(self.each, step.timeout_seconds)
                outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]


def ask() -> Any:
    return call(get("runs/get", "run r"))


@pytest.mark.parametrize(
    ("outcomes", "waits"),
    [
        ([OK], []),
        ([BUSY, BUSY, OK], [0.25, 0.5]),
        ([Failure("reset"), OK], [0.25]),
        ([Response(429, b"", "", "", 7.0), OK], [7.0]),
        ([BUSY] * 7 + [OK], [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]),
    ],
)
def test_tries_again_with_growing_waits(outcomes: list[Outcome], waits: list[float]) -> None:
    wire = Wire(outcomes)
    assert wire.run(ask()) == {"run": 1}
    assert wire.waits == waits


def test_gives_up_within_the_bound_and_says_what_it_tried() -> None:
    wire = Wire([BUSY])
    with pytest.raises(TransientError, match=r"run r: http://m/x answered 503: busy; gave up after \d tries in \d"):
        wire.run(ask(), total=10)
    assert wire.now <= 10


def test_hanging_server_is_bounded_and_each_try_gets_what_is_left() -> None:
    wire = Wire([Failure("MLflow did not answer in time")], seconds_each=99)
    with pytest.raises(TransientError, match="did not answer in time; gave up after 3 tries"):
        wire.run(ask(), timeout=10, total=25)
    assert wire.now <= 25
    assert wire.sent[-1].timeout_seconds < 10


def test_bound_spans_all_requests_of_a_conversation() -> None:
    def many() -> Any:
        for _ in range(100):
            yield from ask()

    wire = Wire([OK], seconds_each=1.0)
    wire.outcomes = [OK] * 8 + [BUSY]
    with pytest.raises(TransientError):
        wire.run(many(), total=10)
    assert wire.now <= 10


def test_longer_retry_after_than_the_bound_gives_up_at_once() -> None:
    wire = Wire([Response(429, b"", "", "", 600.0)])
    with pytest.raises(TransientError, match="after 1 try") as caught:
        wire.run(ask())
    assert caught.value.retry_after_seconds == 600.0
    assert wire.waits == []


def test_zero_seconds_means_one_try() -> None:
    wire = Wire([BUSY])
    with pytest.raises(TransientError, match="after 1 try"):
        wire.run(ask(), total=0)
    assert len(wire.sent) == 1


def test_permanent_failure_is_raised_at_once() -> None:
    wire = Wire([Failure("TLS", PermanentError("certificate"))])
    with pytest.raises(PermanentError, match="certificate"):
        wire.run(ask())
    assert wire.waits == []


def test_500_for_a_file_is_handed_to_the_conversation() -> None:
    wire = Wire([Response(500, b"boom", "text/plain")])

    def look() -> Any:
        answer = yield logged_model_file("m-1", "MLmodel", "model")
        return answer.status

    assert wire.run(look()) == 500
