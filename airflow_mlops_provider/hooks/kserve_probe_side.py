"""One version in a canary's step: which of its pods gets a request, and whose fault a failure is.

Decides what counts against the version (its pods fail, crash, or are not there) and what is waited out (the API
server is away, a pod is just replaced). A conversation without I/O: it says what to send, and is told the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from airflow_mlops_provider.exceptions import TransientError
from airflow_mlops_provider.hooks import kserve_api
from airflow_mlops_provider.hooks.kserve_api import KubeRequest, ServiceReference
from airflow_mlops_provider.hooks.kserve_http import ANSWER_SECONDS, ask_pod
from airflow_mlops_provider.hooks.kserve_rollout import OUTAGE_SECONDS
from airflow_mlops_provider.manifests.canary import Reading
from airflow_mlops_provider.manifests.canary_answers import read_predictions
from airflow_mlops_provider.manifests.canary_requests import path_for
from airflow_mlops_provider.manifests.inference_service_request import problem_of
from airflow_mlops_provider.manifests.rollout import carries_hash
from airflow_mlops_provider.manifests.rollout_evidence import pod_is_ready

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


_T = TypeVar("_T")
Talk = Generator[Pause | Call, Reply | None, _T]


class Outage:
    """How long the API server has been away; every answer starts it anew."""

    def __init__(self, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self._now, self._say = now, say
        self._since: float | None = None

    def ask(self, call: Call, subject: str) -> Talk[Reply]:
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


class Side:
    """One version: its pods, asked in turn."""

    def __init__(
        self, given: Mapping[str, Any], stable: Mapping[str, Any], outage: Outage, now: Callable[[], float]
    ) -> None:
        self._reference = ServiceReference(**given["reference"])
        self._stable_name: str = stable["reference"]["name"]
        self._spec_hash: str = given["spec_hash"]
        self._outage, self._now = outage, now
        self._ready: list[Mapping[str, Any]] = []
        self._restarts: dict[str, int] = {}
        self._crash = ""
        self._listed_at = float("-inf")
        self._turn = 0

    def ask(self, probe: Mapping[str, Any]) -> Talk[Reading]:
        """Ask one pod; where it is being replaced, another."""
        path = path_for(probe["path"], self._stable_name, self._reference.name)
        problem = ""
        for _ in range(2):
            pod = yield from self._find_pod()
            if self._crash:
                # A container that is up again so quickly would hide that it was down.
                problem, self._crash = self._crash, ""
                return Reading(0.0, problem)
            if pod is None:
                return Reading(0.0, f"no ready pod of {self._reference} has the spec {self._spec_hash}")
            name = f"pod {pod['metadata']['name']}"
            reply = yield from self._outage.ask(Call(ask_pod(pod, "POST", path, probe["body"]), ANSWER_SECONDS), name)
            said = _own_words(reply)
            if said is None and not _is_broken_off(reply):
                return _read(name, reply)
            if said is not None:
                _raise_refusal(reply, name, said)
            problem = f"{name}: {said or f'its answer broke off ({reply.body[:200]})'}"
            yield from self._list()
            if pod["metadata"]["uid"] in self._restarts:
                break
        return Reading(0.0, problem)

    def _find_pod(self) -> Talk[Mapping[str, Any] | None]:
        give_up = self._now() + _NO_POD_SECONDS
        while True:
            if not self._ready or self._now() - self._listed_at > _LIST_SECONDS:
                yield from self._list()
            if self._ready:
                self._turn += 1
                return self._ready[self._turn % len(self._ready)]
            if self._now() >= give_up:
                return None
            yield Pause(_POLL_SECONDS)

    def _list(self) -> Talk[None]:
        subject = str(self._reference)
        reply = yield from self._outage.ask(
            Call(kserve_api.list_children("pods", self._reference), ANSWER_SECONDS), subject
        )
        if reply.status != 200:
            raise kserve_api.error_of(reply.status, reply.body, subject)
        living = [
            item
            for item in json.loads(reply.body).get("items") or []
            if carries_hash(item, self._spec_hash) and not item["metadata"].get("deletionTimestamp")
        ]
        self._ready = [item for item in living if pod_is_ready(item)]
        counts = {item["metadata"]["uid"]: _restarts_of(item) for item in living}
        for item in living:
            uid = item["metadata"]["uid"]
            if counts[uid] > self._restarts.get(uid, counts[uid]):
                self._crash = f"pod {item['metadata']['name']}: a container ended and was started again"
        self._restarts, self._listed_at = counts, self._now()


def _restarts_of(pod: Mapping[str, Any]) -> int:
    return sum(item.get("restartCount", 0) for item in (pod.get("status") or {}).get("containerStatuses") or ())


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
