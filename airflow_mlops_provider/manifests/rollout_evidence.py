"""What pods prove about their own future: images, scheduling, crashes.

Decides which states of a pod will not pass by themselves, and how long the doubtful ones are watched before they count.
Pure, no I/O. Waiting reasons: ``pkg/kubelet/images/types.go`` and ``pkg/kubelet/kuberuntime`` of Kubernetes 1.34.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from airflow_mlops_provider.manifests.inference_service import STORAGE_CONTAINER

Object = Mapping[str, Any]
State = Literal["waiting", "suspected", "failed", "ready"]

#: A registry may refuse once and answer the next time; after this long the kubelet has tried twice.
_PULL_GRACE_SECONDS: Final = 12.0
#: A Secret or ConfigMap may be created a moment after the pod.
_CONFIG_GRACE_SECONDS: Final = 10.0
#: The scheduler may wait for a pod that is just ending.
_SCHEDULE_GRACE_SECONDS: Final = 10.0
_UNSCHEDULABLE: Final = "unschedulable"
#: Waiting reason → grace; 0 where nothing but another spec helps.
_STUCK: Final = {
    "InvalidImageName": 0.0,
    "ErrImageNeverPull": 0.0,
    "ErrImagePull": _PULL_GRACE_SECONDS,
    "ImagePullBackOff": _PULL_GRACE_SECONDS,
    "ImageInspectError": _PULL_GRACE_SECONDS,
    "RegistryUnavailable": _PULL_GRACE_SECONDS,
    "SignatureValidationFailed": 0.0,
    "CreateContainerConfigError": _CONFIG_GRACE_SECONDS,
    "CreateContainerError": _CONFIG_GRACE_SECONDS,
    "RunContainerError": _CONFIG_GRACE_SECONDS,
    "PreCreateHookError": _CONFIG_GRACE_SECONDS,
    "PostStartHookError": _CONFIG_GRACE_SECONDS,
}
#: A container that has failed this often will fail again. The storage container does one thing: twice is enough.
_CRASHES: Final = 2
_STORAGE_FAILURES: Final = 1
#: Events of autoscalers that are bringing a node for the pod.
_NODE_IS_COMING: Final = ("TriggeredScaleUp", "Nominated", "ProvisioningRequestAccepted")


@dataclass(frozen=True)
class Verdict:
    """What is known of a rollout.

    :param cause: one line.
    :param key: same cause, same key, while texts may differ; for evidence that has to last.
    :param grace_seconds: how long a suspicion has to last before it is a failure.
    :param pod: whose logs tell more.
    :param container: which of its containers.
    :param pods: ready pods of the new version.
    """

    state: State
    cause: str
    key: str = ""
    grace_seconds: float = 0.0
    pod: str | None = None
    container: str | None = None
    pods: tuple[str, ...] = ()


def waiting(cause: str) -> Verdict:
    """Return that nothing is wrong yet."""
    return Verdict("waiting", cause)


def suspected(cause: str, key: str, grace_seconds: float) -> Verdict:
    """Return evidence that has to last *grace_seconds* to count."""
    return Verdict("suspected", cause, key, grace_seconds)


def judge_pods(pods: Sequence[Object], events: Sequence[Object], *, room_is_made: bool = False) -> Verdict | None:
    """Return the gravest evidence that pods of the new version give; None where they give none.

    :param room_is_made: pods of the service are just ending, so that one that finds no room may find some.
    """
    found = [verdict for pod in pods for verdict in _evidence(pod, events)]
    if room_is_made:
        found = [verdict for verdict in found if verdict.key != _UNSCHEDULABLE]
    return min(found, key=lambda item: (item.state != "failed", item.grace_seconds), default=None)


def _evidence(pod: Object, events: Sequence[Object]) -> Iterator[Verdict]:
    if pod["metadata"].get("deletionTimestamp"):
        return
    for name, status in _container_statuses(pod):
        yield from _crash(pod, name, status)
        yield from _stuck(pod, name, status)
    scheduled = conditions_of(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        name = pod["metadata"]["name"]
        if not any(item.get("reason") in _NODE_IS_COMING for item in events_of(pod, events)):
            cause = f"pod {name} fits on no node: {scheduled.get('message', '')}"
            yield Verdict("suspected", cause, _UNSCHEDULABLE, _SCHEDULE_GRACE_SECONDS, name)


def _crash(pod: Object, name: str, status: Object) -> Iterator[Verdict]:
    """Yield a container that fails again and again: it has just ended with an error, or is held back after that."""
    state, restarts = status.get("state") or {}, status.get("restartCount", 0)
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    if not ended.get("exitCode") or state.get("running"):
        return
    enough = _STORAGE_FAILURES if name == STORAGE_CONTAINER else _CRASHES
    if restarts < enough:
        return
    pod_name = pod["metadata"]["name"]
    cause = f"container {name} of pod {pod_name} failed {restarts + 1} times ({_how_it_ended(pod, name, ended)})"
    yield Verdict("failed", cause, f"crash/{name}", 0.0, pod_name, name)


def _how_it_ended(pod: Object, name: str, ended: Object) -> str:
    said = " ".join(str(ended.get("message") or "").split())
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, name)
        return f"killed for using more memory than {limit}" if limit else "killed because memory ran out"
    return f"exit code {ended['exitCode']}" + (f": {said[-300:]}" if said else "")


def _memory_limit(pod: Object, name: str) -> str | None:
    for kind in ("containers", "initContainers"):
        for container in pod["spec"].get(kind) or ():
            if container["name"] == name:
                limit: str | None = ((container.get("resources") or {}).get("limits") or {}).get("memory")
                return f"its limit of {limit}" if limit else None
    return None


def _stuck(pod: Object, name: str, status: Object) -> Iterator[Verdict]:
    held = (status.get("state") or {}).get("waiting") or {}
    reason = held.get("reason", "")
    if reason not in _STUCK:
        return
    pod_name, message = pod["metadata"]["name"], held.get("message", "")
    if "Image" in reason or reason in ("RegistryUnavailable", "SignatureValidationFailed"):
        cause = f"image {status.get('image')} of container {name} cannot be pulled ({reason}: {message})"
        # ErrImagePull and ImagePullBackOff take turns: one cause.
        yield Verdict(_state(reason), cause, f"image/{name}", _STUCK[reason], pod_name)
    else:
        cause = f"container {name} of pod {pod_name} cannot be started ({reason}: {message})"
        yield Verdict(_state(reason), cause, f"start/{name}", _STUCK[reason], pod_name)


def _state(reason: str) -> State:
    return "suspected" if _STUCK[reason] else "failed"


def _container_statuses(pod: Object) -> Iterator[tuple[str, Object]]:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(kind) or ():
            yield item["name"], item


def conditions_of(item: Object) -> dict[str, Object]:
    """Return an object's conditions by type."""
    return {condition["type"]: condition for condition in (item.get("status") or {}).get("conditions") or ()}


def pod_is_ready(pod: Object) -> bool:
    """Whether a pod gets requests."""
    living = not pod["metadata"].get("deletionTimestamp")
    return living and conditions_of(pod).get("Ready", {}).get("status") == "True"


def events_of(item: Object | None, events: Sequence[Object]) -> Iterator[Object]:
    """Yield the events about one object."""
    if item is not None:
        uid = item["metadata"].get("uid")
        yield from (event for event in events if (event.get("involvedObject") or {}).get("uid") == uid)
