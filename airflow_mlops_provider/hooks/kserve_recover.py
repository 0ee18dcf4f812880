"""After a deployment that failed: leave it, go back, or take away what it made.

Decides what may be touched: only an object that is still the one this deployment left, and only deleted if this
deployment made it. Does I/O through the KServe hook.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, Literal

from airflow_mlops_provider.exceptions import MLOpsProviderError
from airflow_mlops_provider.hooks.kserve_apply import DeployPlan
from airflow_mlops_provider.hooks.kserve_rollout import wait_for_rollout
from airflow_mlops_provider.manifests.inference_service_seal import pod_annotations, read_spec_hash
from airflow_mlops_provider.manifests.naming import MODEL_URI_ANNOTATION
from airflow_mlops_provider.manifests.rollout import Target, min_replicas_of

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook

OnFailure = Literal["keep", "rollback", "delete_if_created"]
ON_FAILURE: Final = ("keep", "rollback", "delete_if_created")
_POLL_SECONDS: Final = 2.0


def recover(
    hook: KServeHook,
    plan: DeployPlan,
    on_failure: str,
    *,
    say: Callable[[str], None],
    wait_seconds: float,
) -> str:
    """Do what *on_failure* asks for, and return one line that says what was done. Never raises: it follows a failure.

    :param wait_seconds: how long the former version is waited for after a rollback; 0: not at all.
    """
    try:
        if on_failure == "rollback":
            return _roll_back(hook, plan, say=say, wait_seconds=wait_seconds)
        if on_failure == "delete_if_created":
            return _delete(hook, plan)
    except MLOpsProviderError as error:
        return f"on_failure={on_failure}: failed, too: {error}"
    return "on_failure=keep: nothing was undone; pods of a former version serve until new ones are ready"


def _roll_back(hook: KServeHook, plan: DeployPlan, *, say: Callable[[str], None], wait_seconds: float) -> str:
    if plan.former is None:
        return "on_failure=rollback: there is no former version of ours to go back to; the object stays as it is"
    live = hook.get_service(plan.service)
    if live is None or live["metadata"]["uid"] != plan.awaited.uid or read_spec_hash(live) != plan.awaited.spec_hash:
        return "on_failure=rollback: the object is not the one this task left; not touched"
    applied = hook.apply(plan.former)
    spec_hash = read_spec_hash(plan.former)
    shown = f"spec {spec_hash}, model {pod_annotations(plan.former).get(MODEL_URI_ANNOTATION, 'unknown')}"
    if not wait_seconds:
        return f"on_failure=rollback: asked for the former version again ({shown})"
    target = Target(
        **{
            **asdict(plan.awaited),
            "spec_hash": spec_hash,
            "generation": applied["metadata"].get("generation"),
            "min_replicas": min_replicas_of(plan.former),
        }
    )
    say(f"Rolling back to {shown}")
    verdict = wait_for_rollout(
        hook,
        plan.service,
        target,
        deadline_seconds=time.time() + wait_seconds,
        poll_interval_seconds=_POLL_SECONDS,
        say=say,
    )
    if verdict.state == "ready":
        return f"on_failure=rollback: the former version serves again ({shown})"
    return f"on_failure=rollback: asked for the former version again ({shown}), but it is not ready: {verdict.cause}"


def _delete(hook: KServeHook, plan: DeployPlan) -> str:
    if not plan.created:
        return "on_failure=delete_if_created: the object was there before this task; it stays"
    uid = plan.awaited.uid or _uid_of_ours(hook, plan)
    if uid:
        hook.delete(plan.service, uid)
    return "on_failure=delete_if_created: the object, which this task made, is deleted"


def _uid_of_ours(hook: KServeHook, plan: DeployPlan) -> str | None:
    """The task was stopped before the reply to its create request came."""
    live = hook.get_service(plan.service)
    return live["metadata"]["uid"] if live is not None and read_spec_hash(live) == plan.awaited.spec_hash else None
