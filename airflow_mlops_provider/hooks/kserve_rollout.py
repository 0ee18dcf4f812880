"""Watching a rollout from a task, and gathering what explains its end.

Decides when to look and what to fetch; the judgement is :mod:`airflow_mlops_provider.manifests.rollout`'s, the same
as the trigger's. Does I/O through :class:`~airflow_mlops_provider.hooks.kserve.KServeHook`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from airflow_mlops_provider.exceptions import (
    DeploymentFailedError,
    DeploymentTimeoutError,
    MLOpsProviderError,
    TransientError,
)
from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.manifests.inference_service_seal import read_spec_hash
from airflow_mlops_provider.manifests.rollout import Observation, Target, judge
from airflow_mlops_provider.manifests.rollout_evidence import Verdict
from airflow_mlops_provider.manifests.rollout_patience import Patience
from airflow_mlops_provider.manifests.rollout_report import build_report, containers_to_read, last_line, pods_to_read

#: How long the API server may be away while a rollout is waited for. Every answer starts it anew.
OUTAGE_SECONDS: Final = 600.0
_OUTAGE_PAUSE_SECONDS: Final = 5.0


def look(hook: KServeHook, reference: ServiceReference, target: Target) -> tuple[Observation, Verdict]:
    """Observe once and judge; events are read only where they matter."""
    seen = hook.observe(reference)
    verdict = judge(seen, target)
    if verdict.state == "suspected" or not seen.pods:
        seen = replace(seen, events=hook.list_events(reference))
        verdict = judge(seen, target)
    return seen, verdict


def wait_for_rollout(
    hook: KServeHook,
    reference: ServiceReference,
    target: Target,
    *,
    deadline_seconds: float,
    poll_interval_seconds: float,
    say: Callable[[str], None],
) -> Verdict:
    """Wait until the rollout is over, and return how: ``ready``, ``failed``, or ``waiting`` at the deadline.

    :param deadline_seconds: Unix time.
    :param say: gets a line whenever something changed.
    :raises TransientError: the API server was away for longer than the budget.
    """
    patience, told, outage_since = Patience(), "", None
    while True:
        now = time.monotonic()
        try:
            _, verdict = look(hook, reference, target)
        except TransientError as error:
            outage_since = outage_since or now
            if now - outage_since > OUTAGE_SECONDS:
                raise
            say(f"The API server does not answer; going on to ask: {error}")
            time.sleep(_OUTAGE_PAUSE_SECONDS)
            continue
        outage_since = None
        verdict = patience.weigh(verdict, now)
        if verdict.cause != told:
            told = verdict.cause
            say(f"{reference}: {verdict.cause}")
        if verdict.state in ("ready", "failed") or time.time() >= deadline_seconds:
            return verdict
        time.sleep(poll_interval_seconds)


def explain(
    hook: KServeHook, reference: ServiceReference, target: Target, verdict: Verdict
) -> DeploymentFailedError | DeploymentTimeoutError:
    """Return the error that a rollout ended with: the cause in its first line, then conditions, events and logs."""
    try:
        seen = hook.observe(reference, events=True)
        spec_hash = target.spec_hash or (read_spec_hash(seen.service) if seen.service else None)
        logs = _read_logs(hook, seen, spec_hash, verdict)
    except MLOpsProviderError as error:
        # The cause is known; that its proof cannot be read must not take its place.
        return _error(verdict, reference, verdict.cause, [f"(nothing more could be read: {error})"])
    cause = verdict.cause
    if verdict.container and (said := last_line(logs, verdict.container)) and said not in cause:
        cause += f"; its last line: {said}"
    return _error(verdict, reference, cause, build_report(seen, spec_hash, logs))


def _error(
    verdict: Verdict, reference: ServiceReference, cause: str, proof: Sequence[str]
) -> DeploymentFailedError | DeploymentTimeoutError:
    if verdict.state == "failed":
        return DeploymentFailedError("\n".join([f"{reference}: {cause}", *proof]))
    return DeploymentTimeoutError("\n".join([f"{reference}: not ready in time: {cause}", *proof]))


def _read_logs(hook: KServeHook, seen: Observation, spec_hash: str | None, verdict: Verdict) -> dict[str, str]:
    logs: dict[str, str] = {}
    for pod in pods_to_read(seen, spec_hash, verdict):
        name = pod["metadata"]["name"]
        for container, previous in containers_to_read(pod):
            text = hook.read_log(pod["metadata"]["namespace"], name, container, previous=previous)
            if text:
                logs[f"pod {name}, container {container}{', the run before' if previous else ''}"] = text
    return logs
