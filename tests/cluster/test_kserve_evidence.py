"""Red with the cause in the first line, in time, while the former version answers on; and green never too early.

The services answer from a file, so a version is up in 3 seconds and only the rollout matters.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("change", "causes"),
    [
        ({"image": "mlops.local/none:1"}, ["image mlops.local/none:1", "cannot be pulled"]),
        ({"nodeSelector": {"pool": "nowhere"}}, ["fits on no node", "didn't match Pod's node affinity/selector"]),
        ({"before": "echo no such column >&2; exit 3"}, ["failed 3 times", "exit code 3", "no such column"]),
    ],
)
def test_evidence_ends_the_wait(world: World, probe: str, change: Any, causes: list[str], deferrable: bool) -> None:
    world.deploy(probe, manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    fails(lambda: world.deploy(probe, manifest=probe_manifest("[3]", **change), deferrable=deferrable), *causes)
    assert world.probe(probe) == [1, 2]


def test_over_the_quota(world: World, probe: str) -> None:
    world.deploy(probe, manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    world.create(quota)
    try:
        fails(lambda: world.deploy(probe, manifest=probe_manifest("[3]")), "over the quota", "exceeded quota: small")
        assert world.probe(probe) == [1, 2]
    finally:
        world.remove("ResourceQuota", "small")


def test_crash_at_the_first_prediction(world: World, probe: str) -> None:
    world.deploy(probe, manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    crashing = probe_manifest("[3]", asked="kill 1; sleep 5")
    message = fails(
        lambda: world.deploy(probe, manifest=crashing, smoke_test=SMOKE, on_failure="rollback"),
        "the prediction failed",
        within_seconds=90,
    )
    assert "the former version serves again" in message
    assert world.probe(probe) == [1, 2]


def test_webhook_that_is_down(world: World, probe: str) -> None:
    world.deploy(probe, manifest=probe_manifest("[1, 2]"), smoke_test=SMOKE)
    name = f"down-{world.namespace}"
    rule = {
        "apiGroups": ["serving.kserve.io"],
        "apiVersions": ["v1beta1"],
        "operations": ["UPDATE"],
        "resources": ["inferenceservices"],
    }
    hook = {
        "name": "down.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = world.of_kind("ValidatingWebhookConfiguration")
    kind.create(body={"metadata": {"name": name}, "webhooks": [hook]})
    try:
        time.sleep(2)  # the API server reads webhooks from a cache
        fails(
            lambda: world.deploy(probe, manifest=probe_manifest("[3]")),
            "an admission webhook does not answer",
            "connection refused",
        )
        assert world.probe(probe) == [1, 2]
    finally:
        kind.delete(name=name)


@pytest.mark.parametrize(
    ("deed", "cause"),
    [
        ("deleted", "deleted while it was waited for"),
        ("replaced", "replaced by another object"),
        ("changed", "'a-person'"),
    ],
)
def test_hand_on_the_object_while_waiting(world: World, deed: str, cause: str) -> None:
    name = f"hand-{deed}"
    stuck = probe_manifest("[3]", nodeSelector={"pool": "nowhere"})

    def act() -> None:
        if deed == "changed":
            world.patch(name, {"predictor": {"minReplicas": 2, "maxReplicas": 2}}, manager="a-person")
            return
        world.remove("InferenceService", name)
        if deed == "replaced":
            world.wait_until_gone(name)
            world.create({**stuck, "metadata": {"name": name}})

    work = lambda: world.deploy(name, manifest=stuck, deferrable=True, meanwhile=act)  # noqa: E731
    message = fails(work, *([] if deed == "replaced" else [cause]))
    assert cause in message.splitlines()[0] or "deleted while it was waited for" in message.splitlines()[0]


def test_ready_left_over_from_the_former_version_never_passes(world: World) -> None:
    world.deploy("stale", manifest=probe_manifest("[1]"), smoke_test=SMOKE)
    seen: list[str] = []

    def watch() -> None:
        for _ in range(8):
            conditions = world.get("InferenceService", "stale")["status"]["conditions"]
            seen.append(next(item["status"] for item in conditions if item["type"] == "Ready"))
            time.sleep(1)

    started = time.monotonic()
    world.deploy(
        "stale", manifest=probe_manifest("[2]", before="sleep 10"), smoke_test=SMOKE, deferrable=True, meanwhile=watch
    )
    assert time.monotonic() - started > 10
    assert seen.count("True") >= 6, "KServe called it ready all the time"
    assert world.probe("stale") == [2]
