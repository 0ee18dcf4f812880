"""A rollout in words, for a task's log and the message of its error: cause first, then what proves it.

Decides what is worth reading and how much of it. Pure, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from airflow_mlops_provider.manifests.inference_service import (
    LLM_CONTAINER,
    PREDICTOR_CONTAINER,
    STORAGE_CONTAINER,
)
from airflow_mlops_provider.manifests.inference_service_seal import describe
from airflow_mlops_provider.manifests.rollout import Observation, carries_hash, template_hash
from airflow_mlops_provider.manifests.rollout_evidence import Object, Verdict, conditions_of

_MOST_EVENTS: Final = 12
_MOST_PODS: Final = 2


def pods_to_read(seen: Observation, spec_hash: str | None, verdict: Verdict) -> list[Object]:
    """Return the pods whose logs tell most: the one that the verdict names, and the newest of the new version."""
    pods = [item for item in seen.pods if carries_hash(item, spec_hash)]
    pods.sort(key=lambda item: str(item["metadata"].get("creationTimestamp")), reverse=True)
    pods.sort(key=lambda item: item["metadata"]["name"] != verdict.pod)
    return pods[:_MOST_PODS]


def containers_to_read(pod: Object) -> Iterator[tuple[str, bool]]:
    """Yield container and whether its previous run is meant, for those that have run; the failed run first."""
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(kind) or ():
            name, restarts, state = item["name"], item.get("restartCount", 0), item.get("state") or {}
            if name not in (STORAGE_CONTAINER, PREDICTOR_CONTAINER, LLM_CONTAINER) and not restarts:
                continue
            if restarts and "running" in state:
                yield name, True
            if restarts or "waiting" not in state:
                yield name, False


def build_report(seen: Observation, spec_hash: str | None, logs: Mapping[str, str]) -> list[str]:
    """Return the lines that follow the cause.

    :param logs: title → text.
    """
    lines: list[str] = []
    for item in [*([seen.service] if seen.service else []), *seen.deployments]:
        lines += _conditions(item)
    uids = {str(item["metadata"].get("uid")) for item in _of_this_version(seen, spec_hash)}
    events = [item for item in seen.events if str((item.get("involvedObject") or {}).get("uid")) in uids]
    events.sort(key=_time_of)
    lines += [
        f"event {(item.get('involvedObject') or {}).get('kind')} {(item.get('involvedObject') or {}).get('name')}: "
        f"{item.get('type')} {item.get('reason')}: {item.get('message')}"
        for item in events[-_MOST_EVENTS:]
    ]
    for title, text in logs.items():
        lines += [f"log of {title}:", *(f"  {line}" for line in text.splitlines())]
    return lines


def last_line(logs: Mapping[str, str], container: str) -> str:
    """Return the last line that a container wrote: the error, where a program ends with one."""
    texts = [text for title, text in logs.items() if f"container {container}" in title and text.strip()]
    return texts[0].strip().splitlines()[-1].strip() if texts else ""


def _time_of(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _of_this_version(seen: Observation, spec_hash: str | None) -> Sequence[Object]:
    service = [seen.service] if seen.service else []
    pods = [item for item in seen.pods if carries_hash(item, spec_hash)]
    sets = [item for item in seen.replica_sets if template_hash(item) == spec_hash]
    return [*service, *seen.deployments, *sets, *pods]


def _conditions(item: Object) -> Iterator[str]:
    shown = describe(item) if item.get("kind") else f"Deployment {item['metadata']['name']}"
    for name, condition in conditions_of(item).items():
        text = ": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
        yield f"condition of {shown}: {name}={condition.get('status')}{f' ({text})' if text else ''}"
