"""How often a request is tried and how long to wait: once, for the synchronous and the asynchronous client.

Decides tries, waits and when to give up, within one bound for a whole conversation. Leaves sending and sleeping to
:mod:`.mlflow_client`, which carries out the steps that :func:`hold` yields. No I/O; the clock and the dice are handed
    in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias, TypeVar

from airflow_mlops_provider.exceptions import MLOpsProviderError, TransientError
from airflow_mlops_provider.hooks.mlflow_api import Conversation, Request, Response, is_transient, raise_for_error

T = TypeVar("T")

_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 5.0
#: A last try with less time than this cannot succeed.
_SHORTEST_TRY_SECONDS = 0.05


@dataclass(frozen=True)
class Send:
    """Send this request and answer with a :class:`Response` or a :class:`Failure`."""

    request: Request
    timeout_seconds: float


@dataclass(frozen=True)
class Wait:
    """Sleep, then answer with None."""

    seconds: float


@dataclass(frozen=True)
class Failure:
    """No answer came. ``permanent`` is raised at once, otherwise ``reason`` is told when the tries end."""

    reason: str
    permanent: MLOpsProviderError | None = None


Outcome: TypeAlias = Response | Failure | None
Steps: TypeAlias = Generator[Send | Wait, Outcome, T]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Bound one conversation.

    :param timeout_seconds: for one try.
    :param total_seconds: for all requests of the conversation, waits included; 0 means one try each.
    """

    timeout_seconds: float
    total_seconds: float
    clock: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random

    def wait_seconds(self, attempt: int, outcome: Outcome) -> float:
        """Return what the server asked for, else an exponential wait of which half is random."""
        if isinstance(outcome, Response) and outcome.retry_after_seconds is not None:
            return outcome.retry_after_seconds
        longest = min(_FIRST_WAIT_SECONDS * 2.0**attempt, _LONGEST_WAIT_SECONDS)
        return longest * (0.5 + 0.5 * self.dice())


def hold(conversation: Conversation[T], policy: RetryPolicy) -> Steps[T]:
    """Yield the steps that carry a conversation to its end; what it returns is returned.

    :raises TransientError: the time is over. The conversation is closed, it cannot go on without its answer.
    """
    deadline = policy.clock() + policy.total_seconds
    reply: Response | None = None
    try:
        while True:
            try:
                request = conversation.send(reply)  # type: ignore[arg-type]  # a generator's first send is None
            except StopIteration as stop:
                result: T = stop.value
                return result
            reply = yield from _try(request, deadline, policy)
    finally:
        conversation.close()


def _try(request: Request, deadline: float, policy: RetryPolicy) -> Steps[Response]:
    started = policy.clock()
    for attempt in count():
        left = deadline - policy.clock() if policy.total_seconds else policy.timeout_seconds
        outcome = yield Send(request, max(min(policy.timeout_seconds, left), _SHORTEST_TRY_SECONDS))
        if isinstance(outcome, Response) and _is_final(request, outcome):
            return outcome
        if isinstance(outcome, Failure) and outcome.permanent is not None:
            raise outcome.permanent
        wait = policy.wait_seconds(attempt, outcome)
        if policy.clock() + wait + _SHORTEST_TRY_SECONDS > deadline:
            raise _give_up(request, outcome, attempt + 1, policy.clock() - started)
        yield Wait(wait)
    raise AssertionError("count() does not end")  # pragma: no cover


def _is_final(request: Request, response: Response) -> bool:
    return not is_transient(response) or (response.status == 500 and not request.retries_500)


def _give_up(request: Request, outcome: Outcome, tries: int, seconds: float) -> TransientError:
    effort = f"; gave up after {tries} {'try' if tries == 1 else 'tries'} in {seconds:.1f} s"
    if isinstance(outcome, Response):
        try:
            raise_for_error(request, outcome)
        except TransientError as error:
            return TransientError(f"{error}{effort}", retry_after_seconds=error.retry_after_seconds)
    reason = outcome.reason if isinstance(outcome, Failure) else "no answer"
    return TransientError(f"{request.subject}: {reason}{effort}")
