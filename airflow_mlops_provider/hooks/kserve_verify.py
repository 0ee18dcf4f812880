"""Does it answer? HTTP readiness, then a prediction, from the very pods of the new version or from the address.

Decides whom to ask and how often; what counts as an answer is
:mod:`airflow_mlops_provider.manifests.inference_service_request`'s. Does I/O.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_mlops_provider.exceptions import DeploymentFailedError, PredictionFailedError
from airflow_mlops_provider.hooks.kserve_http import Answer, Door, PodDoor, UrlDoor
from airflow_mlops_provider.hooks.kserve_rollout import explain, look, wait_for_rollout
from airflow_mlops_provider.manifests.inference_service_request import (
    SmokeTest,
    problem_of,
    readiness_path,
    says_ready,
)
from airflow_mlops_provider.manifests.rollout import Observation, carries_hash, template_hash
from airflow_mlops_provider.manifests.rollout_evidence import pod_is_ready

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_apply import DeployPlan

#: A pod that Kubernetes calls ready may answer HTTP a little later: KServe's own probe only opens a connection.
READY_SECONDS: Final = 60.0
#: Asking each of a hundred pods would take longer than the rollout; all have the same spec.
MOST_PODS: Final = 10
_PAUSE_SECONDS: Final = 0.5
#: Minutes may lie between a trigger's event and the worker that goes on: a pod may just be replaced.
_SETTLE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Prediction:
    """A smoke test that was passed."""

    latency_seconds: float
    answers: int


def verify_rollout(
    hook: KServeHook,
    plan: DeployPlan,
    *,
    access: str,
    protocol: str | None,
    smoke: SmokeTest | None,
    example: Callable[[], Any],
    say: Callable[[str], None],
) -> float | None:
    """Ask the new version over HTTP and return the latency of its slowest answer, None without a smoke test.

    :param protocol: whose readiness is asked for; None: none, it may speak anything.
    :raises PredictionFailedError: it does not answer as it should.
    :raises DeploymentFailedError: it is not, or no longer, the version that was deployed.
    """
    service, target = plan.service, plan.awaited
    settled = wait_for_rollout(
        hook,
        service,
        target,
        deadline_seconds=time.time() + _SETTLE_SECONDS,
        poll_interval_seconds=_POLL_SECONDS,
        say=say,
    )
    if settled.state != "ready":
        raise explain(hook, service, target, settled)
    doors = find_doors(hook, hook.observe(service), access, version=lambda pod: carries_hash(pod, target.spec_hash))
    if protocol is not None:
        wait_until_loaded(doors, protocol, service.name)
        say(f"{service}: the model is loaded in {', '.join(door.name for door in doors)}")
    passed = pass_smoke_test(doors, smoke, example, say) if smoke is not None else None
    _, verdict = look(hook, service, target)
    if verdict.state == "failed":
        raise explain(hook, service, target, verdict)
    return passed.latency_seconds if passed else None


def describe_service(hook: KServeHook, plan: DeployPlan) -> tuple[str | None, str | None]:
    """Return the service's address and revision: Knative's name of it, else the Deployment's number."""
    seen = hook.observe(plan.service)
    predictor = (((seen.service or {}).get("status") or {}).get("components") or {}).get("predictor") or {}
    numbers = [
        (item["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision")
        for item in seen.replica_sets
        if template_hash(item) == plan.awaited.spec_hash
    ]
    numbers.sort(key=lambda number: int(number or 0))
    return stated_url(seen.service), predictor.get("latestReadyRevision") or (numbers[-1] if numbers else None)


def find_doors(
    hook: KServeHook, seen: Observation, access: str, *, version: Callable[[Mapping[str, Any]], bool] = lambda _: True
) -> list[Door]:
    """Return the ways to those that serve.

    :param access: ``api-server``: each ready pod (at most 10); ``url``: the service's address.
    :param version: whether a pod is of the version that is meant.
    :raises DeploymentFailedError: there is no address, or no pod.
    """
    if access == "url":
        return [UrlDoor(url_of(seen.service))]
    pods = [item for item in seen.pods if pod_is_ready(item) and version(item)]
    if not pods:
        raise DeploymentFailedError("no pod is ready to serve")
    return [PodDoor(hook, item) for item in pods[:MOST_PODS]]


def url_of(service: Mapping[str, Any] | None) -> str:
    """Return the address at which clients reach the service.

    :raises DeploymentFailedError: KServe states none.
    """
    url = stated_url(service)
    if url is None:
        raise DeploymentFailedError("KServe states no address of the service; use access='api-server'")
    return url


def stated_url(service: Mapping[str, Any] | None) -> str | None:
    """Return the address that KServe states, the outer one first."""
    status = (service or {}).get("status") or {}
    return status.get("url") or (status.get("address") or {}).get("url")


def wait_until_loaded(doors: Iterable[Door], protocol: str, name: str, *, seconds: float = READY_SECONDS) -> None:
    """Ask each for its readiness until it says yes.

    :raises PredictionFailedError: one does not in time.
    """
    deadline = time.monotonic() + seconds
    for door in doors:
        path = readiness_path(protocol, name)
        while not says_ready((answer := door.ask("GET", path)).status, answer.body):
            if time.monotonic() > deadline:
                shown = " ".join(answer.body.split())[:300]
                raise PredictionFailedError(
                    f"{door.name}: the model is not loaded: {path} answers {answer.status}: {shown}"
                )
            time.sleep(_PAUSE_SECONDS)


def pass_smoke_test(
    doors: Sequence[Door], test: SmokeTest, example: Callable[[], Any], say: Callable[[str], None]
) -> Prediction:
    """Ask each for a prediction.

    :param example: the request, where the test names none.
    :raises PredictionFailedError: one answers with an error, too late, or with another shape.
    """
    request = test.request if test.request is not None else example()
    slowest = 0.0
    for door in doors:
        answer = door.ask("POST", test.path, request)
        check_answer(answer, max_latency_seconds=test.max_latency_seconds, expect_shape=test.expect_shape)
        slowest = max(slowest, answer.latency_seconds)
        say(f"{door.name} answered the smoke test in {answer.latency_seconds:.3f} s: {answer.body[:200]}")
    return Prediction(slowest, len(doors))


def check_answer(
    answer: Answer, *, max_latency_seconds: float | None = None, expect_shape: Sequence[int | None] | None = None
) -> None:
    """:raises PredictionFailedError: it is an error, too late, or of another shape."""
    problem = problem_of(
        answer.status,
        answer.body,
        answer.latency_seconds,
        max_latency_seconds=max_latency_seconds,
        expect_shape=expect_shape,
    )
    if problem:
        raise PredictionFailedError(f"{answer.source}: the prediction failed: {problem}")
