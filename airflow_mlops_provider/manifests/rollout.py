"""Whether a rollout is over, still going, or lost: judged by the objects that carry the new spec's hash, by no others.

Decides when «ready» may be believed. KServe's own ``Ready`` stays true through a failing rollout, so it counts only
after every pod that the service selects carries the hash. What single pods prove is :mod:`.rollout_evidence`'s, how
long doubtful evidence is looked at :mod:`.rollout_patience`'s. Pure, no I/O, no clock: JSON types in, a verdict out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_mlops_provider.manifests.inference_service import KIND
from airflow_mlops_provider.manifests.inference_service_seal import (
    SPEC_HASH_ANNOTATION,
    read_spec_hash,
)
from airflow_mlops_provider.manifests.rollout_evidence import (
    Object,
    Verdict,
    conditions_of,
    events_of,
    judge_pods,
    pod_is_ready,
    suspected,
    waiting,
)

#: How long KServe may complain before it counts: it complains of passing conflicts, too.
_CONTROLLER_GRACE_SECONDS: Final = 8.0
#: Quota may be freed by a pod of the former version that is just ending.
_CREATE_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """The version that is waited for.

    :param uid: of the object; None: whichever has the name.
    :param spec_hash: None: whatever the object asks for now.
    :param generation: of the object when it had this spec; a later one means that somebody changed the spec, also
        where they left the hash alone. None: any.
    :param min_replicas: None: as many as the object asks for.
    :param patient: somebody else brings the version: as long as the object is not there or has another spec, wait.
    """

    name: str
    namespace: str
    uid: str | None
    spec_hash: str | None
    generation: int | None
    min_replicas: int | None = 1
    kind: str = KIND
    patient: bool = False


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the cluster shows of one service at one moment, in JSON types."""

    service: Object | None
    deployments: Sequence[Object] = ()
    replica_sets: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    events: Sequence[Object] = ()


def judge(seen: Observation, target: Target) -> Verdict:
    """Return what the objects say of the rollout."""
    service = seen.service
    if service is not None:
        target = replace(
            target,
            spec_hash=read_spec_hash(service) if target.spec_hash is None else target.spec_hash,
            min_replicas=min_replicas_of(service) if target.min_replicas is None else target.min_replicas,
        )
    problem = _problem_of_object(service, target)
    if problem:
        return waiting(problem) if target.patient else Verdict("failed", problem)
    return _judge_rollout(seen, target)


def min_replicas_of(manifest: Object) -> int:
    """Return how many pods a service asks for at least."""
    spec = manifest["spec"]
    stated = spec["predictor"].get("minReplicas") if "predictor" in spec else spec.get("replicas")
    return 1 if stated is None else int(stated)


def _problem_of_object(service: Object | None, target: Target) -> str | None:
    """Return why the object is not, or no longer, the one that is waited for."""
    if service is None:
        return "it was deleted while it was waited for" if target.uid else "it is not there"
    metadata = service["metadata"]
    if target.uid and metadata["uid"] != target.uid:
        return f"it was replaced by another object while it was waited for (uid {metadata['uid']})"
    if metadata.get("deletionTimestamp"):
        return "it was deleted while it was waited for, and is on its way out"
    found = read_spec_hash(service)
    if found != target.spec_hash:
        return f"it has another spec ({found}, not {target.spec_hash}), written by {_last_manager(service)}"
    if target.generation is not None and metadata.get("generation", 0) > target.generation:
        return f"its spec was changed while it was waited for, by {_last_manager(service)}"
    return None


def _last_manager(service: Object) -> str:
    entries = [item for item in service["metadata"].get("managedFields") or () if not item.get("subresource")]
    newest: Object = max(entries, key=lambda item: str(item.get("time", "")), default={})
    return f"{newest.get('manager', 'an unknown manager')!r}"


def _judge_rollout(seen: Observation, target: Target) -> Verdict:
    deployments = [item for item in seen.deployments if template_hash(item) == target.spec_hash]
    pods = [item for item in seen.pods if carries_hash(item, target.spec_hash)]
    room_is_made = any(item["metadata"].get("deletionTimestamp") for item in seen.pods)
    lost = judge_pods(pods, seen.events, room_is_made=room_is_made) or _judge_replica_sets(seen, target)
    if lost:
        return lost
    if not deployments and not pods:
        return _judge_controller(seen)
    for deployment in deployments:
        verdict = _judge_deployment(deployment, seen.pods, target)
        if verdict:
            return verdict
    missing = [item for item in pods if not pod_is_ready(item) and not item["metadata"].get("deletionTimestamp")]
    if missing:
        return waiting(f"pod {missing[0]['metadata']['name']} is not ready")
    return _judge_service(seen, target, deployments, pods)


def _judge_deployment(deployment: Object, pods: Sequence[Object], target: Target) -> Verdict | None:
    """Judge one Deployment whose template has the hash; None where all of it is updated and available."""
    name, status = deployment["metadata"]["name"], deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return waiting(f"Deployment {name} has not been looked at by its controller")
    progressing = conditions_of(deployment).get("Progressing", {})
    if progressing.get("status") == "False" and progressing.get("reason") == "ProgressDeadlineExceeded":
        return Verdict("failed", f"Deployment {name} made no progress within its deadline: {progressing['message']}")
    desired = deployment["spec"].get("replicas", 1)
    if desired < (target.min_replicas or 0) and not _is_of_canary(deployment, target):
        return waiting(f"Deployment {name} asks for {desired} pods, not yet for {target.min_replicas}")
    for field in ("updatedReplicas", "readyReplicas", "availableReplicas", "replicas"):
        if status.get(field, 0) != desired:
            return waiting(f"Deployment {name} has {status.get(field, 0)} {field}, {desired} are wanted")
    old = [item for item in selected_pods(deployment, pods) if not carries_hash(item, target.spec_hash)]
    if old:
        return waiting(f"pod {old[0]['metadata']['name']} of the former version still serves")
    return None


def _is_of_canary(deployment: Object, target: Target) -> bool:
    """A canary's Deployment (``<name>-<canary>-predictor``) or a worker's has numbers of its own."""
    return bool(deployment["metadata"]["name"] != f"{target.name}-predictor")


def _judge_service(seen: Observation, target: Target, deployments: Sequence[Object], pods: Sequence[Object]) -> Verdict:
    """Believe the service's own conditions, now that its pods are known to be the new ones."""
    ready = [item["metadata"]["name"] for item in pods if pod_is_ready(item)]
    if len(ready) < (target.min_replicas or 0):
        return waiting(f"{len(ready)} of {target.min_replicas} pods are ready")
    strangers = [
        item["metadata"]["name"]
        for item in seen.pods
        if not deployments
        and not carries_hash(item, target.spec_hash)
        and not item["metadata"].get("deletionTimestamp")
    ]
    if strangers:
        return waiting(f"pod {strangers[0]} of the former version still serves")
    condition = conditions_of(seen.service or {}).get("Ready", {})
    if condition.get("status") != "True":
        reason = condition.get("message") or condition.get("reason") or "no condition Ready"
        return waiting(f"its pods are ready, KServe does not say so yet ({reason})")
    return Verdict("ready", f"{len(ready)} pods with spec {target.spec_hash} are ready", pods=tuple(ready))


def _judge_replica_sets(seen: Observation, target: Target) -> Verdict | None:
    """Judge whether pods can be created at all: quota, admission, a missing service account."""
    for item in seen.replica_sets:
        if template_hash(item) != target.spec_hash:
            continue
        failure = conditions_of(item).get("ReplicaFailure", {})
        if failure.get("status") == "True":
            name, message = item["metadata"]["name"], failure.get("message", "")
            return suspected(
                f"no pod can be created ({_cause_of_refusal(message)}): {message}", name, _CREATE_GRACE_SECONDS
            )
    return None


def _cause_of_refusal(message: str) -> str:
    known = {
        "exceeded quota": "over the quota",
        "failed quota": "the quota wants limits",
        "admission webhook": "an admission webhook refuses it",
        "ValidatingAdmissionPolicy": "the platform's admission policy refuses it",
        "violates PodSecurity": "the namespace's Pod Security Standard refuses it",
        "serviceaccount": "its service account is missing",
        "failed calling webhook": "an admission webhook does not answer",
    }
    return next((cause for text, cause in known.items() if text in message), "refused by the API server")


def _judge_controller(seen: Observation) -> Verdict:
    """Judge what KServe says, as long as it has not made anything of the new spec."""
    status = (seen.service or {}).get("status") or {}
    model = status.get("modelStatus") or {}
    if model.get("transitionStatus") == "InvalidSpec":
        failure = model.get("lastFailureInfo") or {}
        text = f"{failure.get('reason', 'InvalidSpec')}: {failure.get('message', '')}".rstrip(": ")
        return suspected(f"KServe cannot use the spec ({text})", "InvalidSpec", _CONTROLLER_GRACE_SECONDS)
    for kind in ("PredictorReady", "Ready"):
        condition = conditions_of(seen.service or {}).get(kind, {})
        if condition.get("reason") == "ReconcileFailed":
            message = condition.get("message", "")
            return suspected(f"KServe cannot make the Deployment: {message}", kind, _CONTROLLER_GRACE_SECONDS)
    complaint = newest_complaint(events_of(seen.service, seen.events))
    if complaint:
        return suspected(f"KServe cannot make the Deployment: {complaint}", "events", _CONTROLLER_GRACE_SECONDS)
    return waiting("KServe has not made a Deployment with the new spec yet")


def newest_complaint(events: Iterable[Object]) -> str | None:
    """Return the last warning about the service; passing conflicts between writers are none."""
    warnings = [
        item
        for item in events
        if item.get("type") == "Warning" and "the object has been modified" not in str(item.get("message"))
    ]
    warnings.sort(key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))
    return str(warnings[-1].get("message", "")) if warnings else None


def selected_pods(deployment: Object, pods: Sequence[Object]) -> Iterator[Object]:
    """Yield the living pods that a Deployment selects; those that end get no requests any more."""
    labels: Mapping[str, str] = (deployment["spec"].get("selector") or {}).get("matchLabels") or {}
    for pod in pods:
        own = pod["metadata"].get("labels") or {}
        if not pod["metadata"].get("deletionTimestamp") and all(own.get(key) == value for key, value in labels.items()):
            yield pod


def carries_hash(item: Object, spec_hash: str | None) -> bool:
    """Whether a pod is of this version."""
    return bool((item["metadata"].get("annotations") or {}).get(SPEC_HASH_ANNOTATION) == spec_hash)


def template_hash(item: Object) -> Any:
    """Return the hash of the version that a Deployment or ReplicaSet makes pods of."""
    template = item["spec"].get("template") or {}
    return ((template.get("metadata") or {}).get("annotations") or {}).get(SPEC_HASH_ANNOTATION)
