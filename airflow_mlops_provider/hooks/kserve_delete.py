"""Deleting a service so that nothing else is hit and nothing of it is left.

Decides what may be deleted: this very object (UID), if it is ours (label). Does I/O through the KServe hook.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from airflow_mlops_provider.exceptions import ConflictError, DeploymentFailedError, DeploymentTimeoutError
from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.manifests.inference_service_seal import check_ownership

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook

_POLL_SECONDS: Final = 1.0


def delete_service(
    hook: KServeHook,
    reference: ServiceReference,
    *,
    uid: str | None,
    timeout_seconds: float,
    ignore_missing: bool,
    say: Callable[[str], None],
) -> str | None:
    """Delete the object, wait until everything below it is gone, and return its UID, None where it was not there.

    :raises ConflictError: it is somebody else's, or not the one that was meant.
    :raises DeploymentFailedError: it is not there, and that matters.
    :raises DeploymentTimeoutError: something of it is left.
    """
    live = hook.get_service(reference)
    if live is None or (uid is not None and live["metadata"]["uid"] != uid and ignore_missing):
        _accept_missing(reference, live, uid, ignore_missing=ignore_missing, say=say)
        return None
    check_ownership(live)
    found: str = live["metadata"]["uid"]
    if uid is not None and found != uid:
        raise ConflictError(f"{reference} is another object now (uid {found}, not {uid}); it is not deleted")
    hook.delete(reference, found)
    say(f"{reference}: asked for its deletion (uid {found})")
    deadline = time.monotonic() + timeout_seconds
    while left := _left_of(hook, reference, found):
        if time.monotonic() > deadline:
            raise DeploymentTimeoutError(f"{reference} is not gone after {timeout_seconds:g} s: {left}")
        time.sleep(_POLL_SECONDS)
    say(f"{reference}: it and everything below it is gone")
    return found


def _accept_missing(
    reference: ServiceReference,
    live: dict[str, Any] | None,
    uid: str | None,
    *,
    ignore_missing: bool,
    say: Callable[[str], None],
) -> None:
    if not ignore_missing:
        raise DeploymentFailedError(f"{reference} does not exist, so it cannot be deleted; set ignore_missing=True")
    other = "" if live is None else f" (another object, uid {live['metadata']['uid']}, has its name; it stays)"
    say(f"{reference}{f' with uid {uid}' if uid else ''} is not there{other}: nothing to delete")


def _left_of(hook: KServeHook, reference: ServiceReference, uid: str) -> str | None:
    """Return what is still there, in words."""
    seen = hook.observe(reference)
    metadata = seen.service["metadata"] if seen.service else {}
    if metadata.get("uid") == uid:
        holding = [name for name in metadata.get("finalizers") or () if name != "foregroundDeletion"]
        if holding:
            return f"its finalizers {', '.join(holding)} are not removed; is their controller running?"
    elif metadata:
        return None  # somebody made a new one; what is below it is not ours to wait for
    for kind, items in (("Deployment", seen.deployments), ("ReplicaSet", seen.replica_sets), ("pod", seen.pods)):
        for item in items:
            holders = item["metadata"].get("finalizers") or ()
            return f"{kind} {item['metadata']['name']} is still there" + (
                f" (finalizers {', '.join(holders)})" if holders else ""
            )
    return "the object itself is still there" if metadata else None
