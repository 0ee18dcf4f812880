"""One step of a canary: both versions are sent the same requests, spread over the step's time, and compared.

Decides when each request is due, which pod gets it, and whose fault a failure is: the pod's, which counts, or the API
server's, which is waited out. Written once as a conversation (what to send, how long to pause) that a task and a
trigger each carry out in their way; the judgement is :mod:`airflow_mlops_provider.manifests.canary`'s.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from airflow_mlops_provider.exceptions import TransientError
from airflow_mlops_provider.hooks import kserve_api
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, ServiceReference
from airflow_mlops_provider.hooks.kserve_http import ANSWER_SECONDS, ask_pod
from airflow_mlops_provider.hooks.kserve_rollout import OUTAGE_SECONDS
from airflow_mlops_provider.manifests.canary import Breach, Gates, Measurement, Reading, Tally
from airflow_mlops_provider.manifests.canary_answers import read_predictions
from airflow_mlops_provider.manifests.canary_requests import path_for
from airflow_mlops_provider.manifests.inference_service_request import problem_of
from airflow_mlops_provider.manifests.rollout import carries_hash
from airflow_mlops_provider.manifests.rollout_evidence import pod_is_ready

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_watch import AsyncKubeClient

_OUTAGE_PAUSE_SECONDS: Final = 5.0
#: Pods come and go; so old a list may be asked by.
_LIST_SECONDS: Final = 5.0
#: A pod that is replaced (a drained node) is back after a while; later it counts as a failure.
_NO_POD_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 1.0
#: How the API server begins its own answer where a pod does not take the connection, or breaks it off.
_UNREACHABLE: Final = ("error trying to reach service", "no endpoints available", "proxy error")
#: How the hooks report an answer that broke off in its middle (urllib3, aiohttp).
_BROKEN_OFF: Final = ("ProtocolError: ('Connection broken", "IncompleteRead", "ClientPayloadError")


@dataclass(frozen=True)
class Pause:
    """Wait so long."""

    seconds: float


@dataclass(frozen=True)
class Call:
    """Send this request."""

    request: KubeRequest
    timeout_seconds: float


@dataclass(frozen=True)
class Reply:
    """What came back. ``status`` is 0 where nothing did; then the body says why."""

    status: int
    body: str
    seconds: float


class Outcome(TypedDict):
    """What a step showed, and the bar that it broke."""

    measurement: Measurement
    breach: Breach | None


_T = TypeVar("_T")
_Talk = Generator[Pause | Call, Reply | None, _T]


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


def bake(step: BakeStep, now: Callable[[], float], say: Callable[[str], None]) -> _Talk[Outcome]:
    """Say what to send and how long to pause, until the step is over or a bar is broken."""
    outage = _Outage(now, say)
    stable = _Side(step.stable, step.stable, outage, now)
    candidate = _Side(step.candidate, step.stable, outage, now)
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


class _Outage:
    """How long the API server has been away; every answer starts it anew."""

    def __init__(self, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self._now, self._say = now, say
        self._since: float | None = None

    def ask(self, call: Call, subject: str) -> _Talk[Reply]:
        """Send until there is an answer of somebody.

        :raises TransientError: there is none for ten minutes.
        """
        while True:
            reply = yield call
            if reply is None:
                raise TypeError("a Call is answered by a Reply")
            if not _is_outage(reply, call):
                self._since = None
                return reply
            if self._since is None:
                self._since = self._now()
                self._say(f"The API server does not answer; going on to ask: {reply.status} {reply.body[:200]}")
            if self._now() - self._since > OUTAGE_SECONDS:
                raise TransientError(f"{subject}: the API server was away for {OUTAGE_SECONDS:g} s: {reply.body[:200]}")
            yield Pause(_OUTAGE_PAUSE_SECONDS)


class _Side:
    """One version: its pods, asked in turn."""

    def __init__(
        self, given: Mapping[str, Any], stable: Mapping[str, Any], outage: _Outage, now: Callable[[], float]
    ) -> None:
        self._reference = ServiceReference(**given["reference"])
        self._stable_name: str = stable["reference"]["name"]
        self._spec_hash: str = given["spec_hash"]
        self._outage, self._now = outage, now
        self._pods: list[Mapping[str, Any]] = []
        self._listed_at = float("-inf")
        self._turn = 0

    def ask(self, probe: Mapping[str, Any]) -> _Talk[Reading]:
        """Ask one pod; where it is gone, another."""
        path = path_for(probe["path"], self._stable_name, self._reference.name)
        problem = ""
        for _ in range(2):
            pod = yield from self._find_pod()
            if pod is None:
                return Reading(0.0, f"no ready pod of {self._reference} has the spec {self._spec_hash}")
            name = f"pod {pod['metadata']['name']}"
            call = Call(ask_pod(pod, "POST", path, probe["body"]), ANSWER_SECONDS)
            reply = yield from self._outage.ask(call, name)
            said = _own_words(reply)
            if said is None and not _is_broken_off(reply):
                return _read(name, reply)
            if said is not None:
                _raise_refusal(reply, name, said)
            problem, self._pods = f"{name}: {said or f'its answer broke off ({reply.body[:200]})'}", []
        return Reading(0.0, problem)

    def _find_pod(self) -> _Talk[Mapping[str, Any] | None]:
        give_up = self._now() + _NO_POD_SECONDS
        while True:
            if not self._pods or self._now() - self._listed_at > _LIST_SECONDS:
                yield from self._list()
            if self._pods:
                self._turn += 1
                return self._pods[self._turn % len(self._pods)]
            if self._now() >= give_up:
                return None
            yield Pause(_POLL_SECONDS)

    def _list(self) -> _Talk[None]:
        subject = str(self._reference)
        reply = yield from self._outage.ask(
            Call(kserve_api.list_children("pods", self._reference), ANSWER_SECONDS), subject
        )
        if reply.status != 200:
            raise kserve_api.error_of(reply.status, reply.body, subject)
        found = json.loads(reply.body).get("items") or []
        self._pods = [item for item in found if carries_hash(item, self._spec_hash) and pod_is_ready(item)]
        self._listed_at = self._now()


def _read(name: str, reply: Reply) -> Reading:
    problem = problem_of(reply.status, reply.body, reply.seconds)
    if problem is None:
        try:
            return Reading(reply.seconds, rows=read_predictions(reply.body))
        except ValueError as error:
            problem = str(error)
    return Reading(reply.seconds, f"{name}: {problem}")


def _is_outage(reply: Reply, call: Call) -> bool:
    """Whether nobody answered, or the API server only for itself."""
    if reply.status == 0:
        # A request that took all of its time, or that was being answered, was with the pod.
        return reply.seconds < 0.9 * call.timeout_seconds and not _is_broken_off(reply)
    said = _own_words(reply)
    away = reply.status == 429 or reply.status >= 500
    return away and said is not None and not any(text in said for text in _UNREACHABLE)


def _is_broken_off(reply: Reply) -> bool:
    return reply.status == 0 and reply.body.startswith(_BROKEN_OFF)


def _own_words(reply: Reply) -> str | None:
    """Return what the API server itself answered; None where the answer is a pod's."""
    if reply.status in (0, 200):
        return None
    try:
        answer = json.loads(reply.body)
    except ValueError:
        return None
    if isinstance(answer, Mapping) and answer.get("kind") == "Status" and answer.get("apiVersion") == "v1":
        return str(answer.get("message") or answer.get("reason") or reply.status)
    return None


def _raise_refusal(reply: Reply, name: str, said: str) -> None:
    """:raises MLOpsProviderError: it is about us, and not about the pod."""
    if reply.status != 404 and not any(text in said for text in _UNREACHABLE):
        raise kserve_api.error_of(reply.status, reply.body, name)
