"""One row per state of the cluster: waiting, lost, or ready, and why. Objects as the API sends them, no cluster."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlops_provider.manifests.inference_service_seal import SPEC_HASH_ANNOTATION
from airflow_mlops_provider.manifests.rollout import Observation, Target, judge
from airflow_mlops_provider.manifests.rollout_evidence import Verdict
from airflow_mlops_provider.manifests.rollout_patience import Patience
from airflow_mlops_provider.manifests.rollout_report import build_report, containers_to_read, last_line, pods_to_read

NEW, OLD = "new0", "old0"
TARGET = Target(name="churn", namespace="ml", uid="u1", spec_hash=NEW, generation=2, min_replicas=1)


def sealed(spec_hash: str) -> dict[str, str]:
    return {SPEC_HASH_ANNOTATION: spec_hash}


def service(*, spec_hash: str = NEW, ready: str = "True", **metadata: Any) -> dict[str, Any]:
    return {
        "kind": "InferenceService",
        "metadata": {"name": "churn", "namespace": "ml", "uid": "u1", "generation": 2, **metadata},
        "spec": {"predictor": {"annotations": sealed(spec_hash), "minReplicas": 1}},
        "status": {"conditions": [{"type": "Ready", "status": ready, "reason": "R"}]},
    }


def deployment(spec_hash: str = NEW, *, replicas: int = 1, conditions: Any = (), **status: int) -> dict[str, Any]:
    numbers = dict.fromkeys(("updatedReplicas", "readyReplicas", "availableReplicas", "replicas"), replicas)
    return {
        "metadata": {"name": "churn-predictor", "uid": "d1", "generation": 5},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "isvc.churn-predictor"}},
            "template": {"metadata": {"annotations": sealed(spec_hash)}},
        },
        "status": {"observedGeneration": 5, "conditions": list(conditions), **numbers, **status},
    }


def pod(
    name: str = "p1", spec_hash: str = NEW, *, ready: bool = True, statuses: Any = (), **metadata: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": name,
            "labels": {"app": "isvc.churn-predictor"},
            "annotations": sealed(spec_hash),
            **metadata,
        },
        "spec": {"containers": [{"name": "kserve-container", "resources": {"limits": {"memory": "1Gi"}}}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": list(statuses),
        },
    }


def container(
    name: str = "kserve-container", *, restarts: int = 0, state: Any = None, last: Any = None
) -> dict[str, Any]:
    return {
        "name": name,
        "image": "a/b:1",
        "restartCount": restarts,
        "state": state or {"running": {}},
        "lastState": last or {},
    }


def held(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **more}}


def seen(**changes: Any) -> Observation:
    healthy = Observation(service=service(), deployments=[deployment()], pods=[pod()])
    return replace(healthy, **changes)


def replica_set(message: str, spec_hash: str = NEW) -> dict[str, Any]:
    return {
        "metadata": {"name": "churn-predictor-1", "uid": "rs"},
        "spec": {"template": {"metadata": {"annotations": sealed(spec_hash)}}},
        "status": {
            "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}]
        },
    }


def event(uid: str, message: str, *, kind: str = "Warning", reason: str = "InternalError") -> dict[str, Any]:
    return {
        "involvedObject": {"uid": uid, "kind": "X", "name": "x"},
        "type": kind,
        "reason": reason,
        "message": message,
    }


def test_ready() -> None:
    assert judge(seen(), TARGET) == Verdict("ready", "1 pods with spec new0 are ready", pods=("p1",))


WAITING = {
    "nothing made yet": (seen(deployments=[], pods=[]), "has not made a Deployment"),
    "only the former version, Ready=True left over": (
        seen(deployments=[deployment(OLD)], pods=[pod(spec_hash=OLD)]),
        "has not made a Deployment",
    ),
    "controller has not looked": (seen(deployments=[deployment(observedGeneration=4)]), "not been looked at"),
    "not all updated": (seen(deployments=[deployment(replicas=2, updatedReplicas=1)]), "has 1 updatedReplicas, 2"),
    "old one still there": (seen(deployments=[deployment(replicas=1)], pods=[pod(), pod("p0", OLD)]), "pod p0"),
    "surplus pod": (
        seen(deployments=[deployment() | {"status": {**deployment()["status"], "replicas": 2}}]),
        "2 replicas",
    ),
    "new pod not ready": (seen(pods=[pod(ready=False)]), "pod p1 is not ready"),
    "service not ready": (seen(service=service(ready="False")), "KServe does not say so yet"),
    "autoscaler has not raised it": (seen(deployments=[deployment(replicas=1)]), "not yet for 2"),
}


@pytest.mark.parametrize("case", WAITING)
def test_waiting(case: str) -> None:
    observation, cause = WAITING[case]
    target = replace(TARGET, min_replicas=2) if "autoscaler" in case else TARGET
    verdict = judge(observation, target)
    assert (verdict.state, cause in verdict.cause) == ("waiting", True), verdict


def test_pod_that_ends_gets_no_requests_and_does_not_count() -> None:
    leaving = pod("p0", OLD, deletionTimestamp="2026-01-01T00:00:00Z")
    assert judge(seen(pods=[pod(), leaving]), TARGET).state == "ready"
    going = pod(deletionTimestamp="2026-01-01T00:00:00Z")
    assert judge(seen(pods=[going]), TARGET).state == "waiting"


LOST = {
    "deleted": (seen(service=None), "it was deleted while it was waited for"),
    "replaced": (seen(service=service(uid="u2")), "was replaced by another object"),
    "being deleted": (
        seen(service=service(deletionTimestamp="t")),
        "it was deleted while it was waited for, and is on its way out",
    ),
    "other spec": (
        seen(service=service(spec_hash="x", managedFields=[{"manager": "kubectl-edit", "time": "2"}])),
        "has another spec (x, not new0), written by 'kubectl-edit'",
    ),
    "spec changed, hash left alone": (
        seen(
            service=service(generation=3, managedFields=[{"manager": "a", "time": "1"}, {"manager": "b", "time": "2"}])
        ),
        "was changed while it was waited for, by 'b'",
    ),
    "deadline": (
        seen(
            deployments=[
                deployment(
                    conditions=[
                        {
                            "type": "Progressing",
                            "status": "False",
                            "reason": "ProgressDeadlineExceeded",
                            "message": "timed out",
                        }
                    ]
                )
            ]
        ),
        "made no progress within its deadline: timed out",
    ),
    "crash loop": (
        seen(
            pods=[
                pod(statuses=[container(restarts=2, state=held("CrashLoopBackOff"), last=ended(1, message="no skops"))])
            ]
        ),
        "container kserve-container of pod p1 failed 3 times (exit code 1: no skops)",
    ),
    "out of memory": (
        seen(pods=[pod(statuses=[container(restarts=2, state=ended(137, reason="OOMKilled"))])]),
        "killed for using more memory than its limit of 1Gi",
    ),
    "storage failed twice": (
        seen(
            pods=[
                pod(statuses=[container("storage-initializer", restarts=1, state=ended(3, message="digest differs"))])
            ]
        ),
        "container storage-initializer of pod p1 failed 2 times (exit code 3: digest differs)",
    ),
    "image name": (
        seen(pods=[pod(statuses=[container(state=held("InvalidImageName", "bad"))])]),
        "image a/b:1 of container kserve-container cannot be pulled (InvalidImageName: bad)",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_lost(case: str) -> None:
    observation, cause = LOST[case]
    verdict = judge(observation, TARGET)
    assert (verdict.state, cause in verdict.cause) == ("failed", True), verdict


SUSPECTED = {
    "image": (
        seen(pods=[pod(ready=False, statuses=[container(state=held("ImagePullBackOff", "not found"))])]),
        "cannot be pulled (ImagePullBackOff: not found)",
    ),
    "secret": (
        seen(
            pods=[
                pod(ready=False, statuses=[container(state=held("CreateContainerConfigError", 'secret "x" not found'))])
            ]
        ),
        'cannot be started (CreateContainerConfigError: secret "x" not found)',
    ),
    "quota": (
        seen(pods=[], replica_sets=[replica_set("pods is forbidden: exceeded quota: small, requested: cpu=2")]),
        "over the quota): pods is forbidden: exceeded quota: small",
    ),
    "invalid spec": (
        seen(
            service=service()
            | {
                "status": {
                    "modelStatus": {
                        "transitionStatus": "InvalidSpec",
                        "lastFailureInfo": {"reason": "NoSupportingRuntime", "message": "no runtime"},
                    }
                }
            },
            deployments=[],
            pods=[],
        ),
        "NoSupportingRuntime: no runtime",
    ),
    "reconcile error": (
        seen(deployments=[], pods=[], events=[event("u1", "fails to reconcile predictor: boom")]),
        "fails to reconcile predictor: boom",
    ),
}


@pytest.mark.parametrize("case", SUSPECTED)
def test_suspected(case: str) -> None:
    observation, cause = SUSPECTED[case]
    verdict = judge(observation, TARGET)
    assert (verdict.state, cause in verdict.cause) == ("suspected", True), verdict
    assert verdict.grace_seconds > 0


def unschedulable(**changes: Any) -> Observation:
    waiting_pod = pod(ready=False)
    waiting_pod["status"]["conditions"].append(
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes match"}
    )
    return seen(pods=[waiting_pod], **changes)


def test_unschedulable_counts_unless_a_node_is_coming() -> None:
    assert "pod p1 fits on no node: 0/1 nodes match" in judge(unschedulable(), TARGET).cause
    coming = [event("p1", "pod triggered scale-up", kind="Normal", reason="TriggeredScaleUp")]
    assert judge(unschedulable(events=coming), TARGET).state == "waiting"


def test_unschedulable_waits_for_the_room_of_a_pod_that_ends() -> None:
    ending = pod("p0", OLD, deletionTimestamp="2026-01-01T00:00:00Z")
    observation = unschedulable()
    assert judge(replace(observation, pods=[*observation.pods, ending]), TARGET).state == "waiting"


@pytest.mark.parametrize(
    "observation",
    [
        seen(
            pods=[
                pod(),
                pod("p0", OLD, statuses=[container(restarts=9, state=held("CrashLoopBackOff"), last=ended(1))]),
            ]
        ),
        seen(replica_sets=[replica_set("exceeded quota", OLD)]),
        seen(pods=[pod(statuses=[container(restarts=1, last=ended(1))])]),
        seen(pods=[pod(ready=False, statuses=[container(restarts=1, state=ended(1))])]),
        seen(deployments=[], pods=[], events=[event("u1", "the object has been modified; please apply your changes")]),
        seen(deployments=[], pods=[], events=[event("other", "boom")]),
    ],
)
def test_no_evidence(observation: Observation) -> None:
    """The former version's troubles, a first crash, a passing conflict and other objects' events prove nothing."""
    assert judge(observation, TARGET).state in ("waiting", "ready")


def test_gravest_evidence_is_told() -> None:
    pods = [
        pod("p1", statuses=[container(state=held("ErrImagePull"))]),
        pod("p2", statuses=[container(restarts=3, state=held("CrashLoopBackOff"), last=ended(1))]),
    ]
    verdict = judge(seen(pods=pods), TARGET)
    assert (verdict.pod, verdict.container) == ("p2", "kserve-container")


PATIENT = replace(TARGET, uid=None, generation=None, patient=True)


@pytest.mark.parametrize(
    ("observation", "target", "state"),
    [
        (seen(service=None), PATIENT, "waiting"),
        (seen(service=service(spec_hash=OLD)), PATIENT, "waiting"),
        (seen(), PATIENT, "ready"),
        (seen(), replace(PATIENT, spec_hash=None, min_replicas=None), "ready"),
        (seen(service=None), replace(PATIENT, spec_hash=None, min_replicas=None), "waiting"),
        (seen(pods=[pod(spec_hash=OLD)]), replace(PATIENT, spec_hash=None), "waiting"),
    ],
)
def test_version_that_somebody_else_brings(observation: Observation, target: Target, state: str) -> None:
    assert judge(observation, target).state == state


def test_suspicion_has_to_last() -> None:
    patience = Patience()
    doubt = Verdict("suspected", "image", "image", 10.0)
    assert patience.weigh(doubt, 100.0).state == "waiting"
    assert patience.weigh(replace(doubt, cause="image, other words"), 109.0).state == "waiting"
    assert patience.weigh(doubt, 110.0).state == "failed"


def test_suspicion_that_passes_begins_anew() -> None:
    patience = Patience()
    doubt = Verdict("suspected", "image", "image", 10.0)
    patience.weigh(doubt, 100.0)
    assert patience.weigh(Verdict("waiting", "pulling"), 105.0).state == "waiting"
    assert patience.weigh(doubt, 111.0).state == "waiting"
    assert patience.weigh(replace(doubt, key="other"), 130.0).state == "waiting"


def test_report_tells_conditions_events_and_logs_of_this_version_only() -> None:
    failing = pod(statuses=[container(restarts=2, state=held("CrashLoopBackOff"), last=ended(1))])
    observation = seen(
        pods=[failing, pod("p0", OLD)],
        events=[event("p1", "Back-off restarting"), event("p0", "of the former"), event("elsewhere", "of nobody")],
    )
    assert [item["metadata"]["name"] for item in pods_to_read(observation, NEW, judge(observation, TARGET))] == ["p1"]
    assert list(containers_to_read(failing)) == [("kserve-container", False)]
    restarted = pod(statuses=[container(restarts=2, last=ended(1)), container("sidecar")])
    assert list(containers_to_read(restarted)) == [("kserve-container", True), ("kserve-container", False)]
    logs = {"pod p1, container kserve-container, the run before": "Traceback\nModuleNotFoundError: skops\n"}
    text = "\n".join(build_report(observation, NEW, logs))
    assert "condition of InferenceService ml/churn: Ready=True" in text
    assert "Back-off restarting" in text
    assert "  ModuleNotFoundError: skops" in text
    assert "of the former" not in text
    assert "of nobody" not in text
    assert last_line(logs, "kserve-container") == "ModuleNotFoundError: skops"
    assert last_line(logs, "storage-initializer") == ""


def test_judgement_changes_nothing() -> None:
    observation = seen()
    before = copy.deepcopy(observation)
    judge(observation, TARGET)
    assert observation == before
