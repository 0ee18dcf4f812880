"""One step of a canary: both versions are sent the same requests, spread over the step's time, and compared.

Decides when each request is due. Written once as a conversation (what to send, how long to pause) that a task and a
trigger each carry out in their way; how a version is asked is :mod:`.kserve_probe_side`'s, the judgement
:mod:`airflow_mlops_provider.manifests.canary`'s. Does I/O through the KServe hooks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_mlops_provider.hooks.kserve_probe_side import Outage, Pause, Reply, Side, Talk
from airflow_mlops_provider.manifests.canary import Breach, Gates, Measurement, Tally

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_watch import AsyncKubeClient


class Outcome(TypedDict):
    """What a step showed, and the bar that it broke."""

    measurement: Measurement
    breach: Breach | None


@dataclass(frozen=True, kw_only=True)
class BakeStep:
    """One step, in JSON types: it travels in a trigger's arguments.

    :param stable: ``{"reference": {…}, "spec_hash": "…"}``: the pods of this version of this service.
    :param candidate: the same.
    :param probes: requests, ``{"path", "body"}``, which take turns.
    :param step: per cent.
    :param planned: requests to each version.
    :param deadline_seconds: Unix time at which the step ends; it begins *bake_seconds* earlier. Begun again later,
        the whole number of requests is sent in the time that is left.
    :param gates: fields of ``Gates``.
    """

    stable: Mapping[str, Any]
    candidate: Mapping[str, Any]
    probes: Sequence[Mapping[str, Any]]
    step: int
    planned: int
    bake_seconds: float
    deadline_seconds: float
    gates: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def due(self, number: int) -> float:
        """Return the Unix time of a request: the first at the beginning, the last at the end."""
        share = number / (self.planned - 1) if self.planned > 1 else 1.0
        return self.deadline_seconds - self.bake_seconds * (1 - share)


def run_bake(hook: KServeHook, step: BakeStep, say: Callable[[str], None]) -> Outcome:
    """Carry a step out in a task; it sleeps between two requests.

    :raises TransientError: the API server was away for ten minutes.
    """
    talk, reply = bake(step, time.time, say), None
    while True:
        try:
            wish = talk.send(reply)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        if isinstance(wish, Pause):
            time.sleep(wish.seconds)
            reply = None
        else:
            started = time.monotonic()
            status, body = hook.send(wish.request, timeout_seconds=wish.timeout_seconds)
            reply = Reply(status, body, time.monotonic() - started)


async def arun_bake(client: AsyncKubeClient, step: BakeStep, say: Callable[[str], None]) -> Outcome:
    """Carry a step out in an event loop.

    :raises TransientError: the API server was away for ten minutes.
    """
    talk, reply = bake(step, time.time, say), None
    while True:
        try:
            wish = talk.send(reply)
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        if isinstance(wish, Pause):
            await asyncio.sleep(wish.seconds)
            reply = None
        else:
            started = time.monotonic()
            status, body = await client.send(wish.request, timeout_seconds=wish.timeout_seconds)
            reply = Reply(status, body, time.monotonic() - started)


def bake(step: BakeStep, now: Callable[[], float], say: Callable[[str], None]) -> Talk[Outcome]:
    """Say what to send and how long to pause, until the step is over or a bar is broken."""
    outage = Outage(now, say)
    stable = Side(step.stable, step.stable, outage, now)
    candidate = Side(step.candidate, step.stable, outage, now)
    tally = Tally(step.step, step.planned, min(len(step.probes), step.planned), Gates(**step.gates))
    for number in range(step.planned):
        left = step.due(number) - now()
        if left > 0:
            yield Pause(left)
        probe = step.probes[number % len(step.probes)]
        # Taking turns to be the first, neither is the one that finds caches warm.
        readings = {}
        for side in (stable, candidate) if number % 2 == 0 else (candidate, stable):
            readings[side] = yield from side.ask(probe)
        tally.add(readings[stable], readings[candidate])
        if breach := tally.breach():
            return {"measurement": tally.measurement(), "breach": breach}
    return {"measurement": tally.measurement(), "breach": None}
