"""Whose object it is, and what becomes of it: ownership, deletion, a stopped task, a version that others bring."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import SMOKE, World, fails, probe_manifest, serving, world

__all__ = ["serving", "world"]

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def probe(world: World) -> str:
    world.deploy("probe", manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    return "probe"


def test_field_of_somebody_else(world: World, probe: str) -> None:
    world.deploy(probe, manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    world.patch(probe, {"predictor": {"minReplicas": 2, "maxReplicas": 2}})
    try:
        fails(
            lambda: world.deploy(probe, manifest=probe_manifest("[3]")),
            "somebody else owns fields",
            ".spec.predictor.minReplicas",
            "somebody-else",
        )
        assert world.probe(probe) == [1, 2]
    finally:
        world.remove("InferenceService", probe)
        world.wait_until_gone(probe)


def test_object_of_somebody_else(world: World) -> None:
    theirs = probe_manifest("[9]")
    theirs["metadata"] = {"name": "theirs", "annotations": theirs["metadata"]["annotations"]}
    world.create(theirs)
    uid = world.get("InferenceService", "theirs")["metadata"]["uid"]
    fails(lambda: world.deploy("theirs", manifest=probe_manifest("[3]")), "InferenceService", "theirs is not ours")
    fails(lambda: world.delete("theirs"), "theirs is not ours")
    assert world.get("InferenceService", "theirs")["metadata"]["uid"] == uid
    world.remove("InferenceService", "theirs")


def test_delete_waits_for_everything_below(world: World) -> None:
    uid = world.deploy("gone", manifest=probe_manifest("[1]"))["uid"]
    fails(lambda: world.delete("gone", uid="another", ignore_missing=False), "is another object now")
    assert world.delete("gone", uid=uid)["deleted"] is True
    pods = world.of_kind("Pod").get(namespace=world.namespace, label_selector="serving.kserve.io/inferenceservice=gone")
    assert pods.items == []
    assert world.delete("gone")["deleted"] is False
    fails(lambda: world.delete("gone", ignore_missing=False), "does not exist")


def test_delete_names_the_finalizer_that_holds(world: World) -> None:
    world.deploy("held", manifest=probe_manifest("[1]"))
    live = world.get("InferenceService", "held")["metadata"]["finalizers"]
    kind = world.of_kind("InferenceService")

    def finalize(finalizers: list[str]) -> None:
        body = {"metadata": {"name": "held", "finalizers": finalizers}}
        kind.patch(body=body, namespace=world.namespace, content_type="application/merge-patch+json")

    finalize([*live, "example.com/audit"])
    try:
        fails(lambda: world.delete("held", timeout_seconds=8), "not gone after 8 s", "example.com/audit")
    finally:
        finalize([])


def test_what_a_failed_task_made_is_deleted_if_asked(world: World) -> None:
    stuck = probe_manifest("[3]", nodeSelector={"pool": "nowhere"})
    message = fails(lambda: world.deploy("brief", manifest=stuck, on_failure="delete_if_created"), "fits on no node")
    assert "the object, which this task made, is deleted" in message
    world.wait_until_gone("brief")


def test_llm_service_by_manifest_is_waited_for_in_the_same_way(world: World) -> None:
    container = probe_manifest("[7]")["spec"]["predictor"]["containers"][0]
    probe = {"httpGet": {"scheme": "HTTP", "port": 8080, "path": "/cgi-bin/predict"}, "timeoutSeconds": 10}
    container |= {name: probe for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    container |= {"name": "main", "securityContext": {"runAsUser": 65534}}
    template = {"terminationGracePeriodSeconds": 2, "containers": [container]}
    spec = {
        "model": {"uri": "hf://none/none", "name": "chat"},
        "replicas": 1,
        "storageInitializer": {"enabled": False},
        "template": template,
    }
    manifest = {"apiVersion": "serving.kserve.io/v1alpha2", "kind": "LLMInferenceService", "spec": spec}
    done = world.deploy("chat", manifest=manifest, smoke_test={**SMOKE, "expect_shape": [1]}, deferrable=True)
    assert (done["created"], done["revision"]) == (True, "1")
    again = world.deploy("chat", manifest=manifest, smoke_test=SMOKE)
    assert (again["changed"], again["uid"]) == (False, done["uid"])
    stuck = {**manifest, "spec": {**spec, "template": {**template, "nodeSelector": {"pool": "nowhere"}}}}
    fails(lambda: world.deploy("chat", manifest=stuck), "LLMInferenceService", "fits on no node")
    kind = {"kind": "LLMInferenceService", "api_version": "serving.kserve.io/v1alpha2"}
    assert world.delete("chat", uid=done["uid"], **kind)["deleted"] is True


def test_sensor_waits_for_what_somebody_else_brings(world: World) -> None:
    theirs = probe_manifest("[5]")
    theirs["metadata"] = {"name": "foreign", "annotations": theirs["metadata"]["annotations"]}
    theirs["spec"]["predictor"]["annotations"] = {"airflow-mlops/spec-hash": "git-1"}
    timer = threading.Timer(2, lambda: world.create(theirs))
    timer.start()
    try:
        found = world.wait("foreign", spec_hash="git-1")
    finally:
        timer.join()
    assert found["spec_hash"] == "git-1"
    assert len(found["pods"]) == 1
    assert world.wait("foreign")["pods"] == found["pods"]
    fails(lambda: world.wait("foreign", spec_hash="git-2", timeout_seconds=3), "not ready in time", "another spec")


def test_stopped_task_follows_on_failure(world: World) -> None:
    world.deploy("stopped", manifest=probe_manifest("[1]"), smoke_test=SMOKE)
    held = probe_manifest("[2]", before="sleep 300")
    with pytest.raises(KeyboardInterrupt):
        world.deploy("stopped", manifest=held, on_failure="rollback", killed_after_seconds=3)
    world.wait("stopped", timeout_seconds=60)
    assert world.probe("stopped") == [1]
