"""The task's door: what it tries again, what it does not, and what it changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parents[1]))
from kserve_api_server import ApiServer, rolled_out, serve, service

from airflow_mlops_provider.exceptions import (
    ConflictError,
    DeploymentFailedError,
    DeploymentTimeoutError,
    TransientError,
)
from airflow_mlops_provider.hooks import kserve, kserve_rollout
from airflow_mlops_provider.hooks.kserve import KServeHook
from airflow_mlops_provider.hooks.kserve_api import ServiceReference
from airflow_mlops_provider.hooks.kserve_apply import DeployPlan, apply_plan
from airflow_mlops_provider.hooks.kserve_recover import recover
from airflow_mlops_provider.hooks.kserve_rollout import explain, wait_for_rollout
from airflow_mlops_provider.manifests.inference_service_seal import read_spec_hash, seal
from airflow_mlops_provider.manifests.rollout import Target
from airflow_mlops_provider.manifests.rollout_evidence import Verdict

AWAY = (503, "etcd is away")
SERVICE = ServiceReference(name="churn", namespace="ml")
TARGET = Target(name="churn", namespace="ml", uid="u1", spec_hash="new0", generation=1)
OURS = {"app.kubernetes.io/managed-by": "airflow-mlops-provider"}
MANIFEST = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "churn", "namespace": "ml", "labels": OURS},
    "spec": {"predictor": {"minReplicas": 1}},
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setattr(kserve, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(kserve_rollout, "_OUTAGE_PAUSE_SECONDS", 0.05)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}
    monkeypatch.setenv("AIRFLOW_CONN_K8S_FAKE", json.dumps(connection))
    with serve(tmp_path / "kubeconfig") as state:
        yield state


@pytest.fixture
def hook(server: ApiServer) -> KServeHook:
    return KServeHook("k8s_fake")


def test_what_may_pass_is_tried_again(server: ApiServer, hook: KServeHook) -> None:
    server.change(inferenceservices=[service()])
    server.refusals = [AWAY] * 3
    assert (hook.get_service(SERVICE) or {})["metadata"]["uid"] == "u1"


def test_outage_that_lasts_is_transient(server: ApiServer, hook: KServeHook) -> None:
    server.refusals = [AWAY] * 4
    with pytest.raises(TransientError, match=r"InferenceService ml/churn: .*etcd is away"):
        hook.get_service(SERVICE)


def test_answer_that_breaks_off_is_transient(server: ApiServer, hook: KServeHook) -> None:
    server.missing_bytes = 10
    with pytest.raises(TransientError, match=r"IncompleteRead|ProtocolError"):
        hook.get_service(SERVICE)
    assert len(server.requests) == 4


def test_refusal_is_not_tried_again(server: ApiServer, hook: KServeHook) -> None:
    server.refusals = [(422, "spec.foo: unknown")]
    with pytest.raises(DeploymentFailedError, match=r"spec\.foo"):
        hook.apply(MANIFEST)
    assert len(server.requests) == 1


def test_absent_object_is_none(hook: KServeHook) -> None:
    assert hook.get_service(SERVICE) is None
    assert hook.delete(SERVICE, "u1") is False


def test_new_object_is_judged_dry_and_then_applied(server: ApiServer, hook: KServeHook) -> None:
    remembered: list[DeployPlan] = []
    plan = apply_plan(hook, MANIFEST, {"run": "1"}, remember=remembered.append)
    assert [line.split()[0] for line in server.requests] == ["GET", "PATCH", "PATCH"]
    assert (plan.created, plan.changed, plan.former, plan.awaited.uid) == (True, True, None, "u1")
    assert [item.created for item in remembered] == [True]
    assert DeployPlan(**json.loads(json.dumps(plan.to_dict()))) == plan


def test_dry_run_applies_nothing(server: ApiServer, hook: KServeHook) -> None:
    plan = apply_plan(hook, MANIFEST, {}, dry_run=True)
    assert [line.split()[0] for line in server.requests] == ["GET", "PATCH"]
    assert (plan.created, plan.changed) == (False, True)


def test_unchanged_spec_keeps_its_lineage_and_is_not_applied(server: ApiServer, hook: KServeHook) -> None:
    live, _ = seal(MANIFEST, {"run": "1"})
    live["metadata"] |= {"uid": "u1", "generation": 7}
    server.change(inferenceservices=[live])
    plan = apply_plan(hook, MANIFEST, {"run": "2"})
    assert [line.split()[0] for line in server.requests] == ["GET", "PATCH"], "only the dry run"
    assert (plan.created, plan.changed, plan.awaited.generation) == (False, False, 7)


def test_object_of_somebody_else_is_not_touched(server: ApiServer, hook: KServeHook) -> None:
    server.change(inferenceservices=[service()])
    with pytest.raises(ConflictError, match="is not ours"):
        apply_plan(hook, MANIFEST, {})
    assert [line.split()[0] for line in server.requests] == ["GET"]


def wait(hook: KServeHook, deadline_seconds: float = 4e9) -> Verdict:
    return wait_for_rollout(
        hook, SERVICE, TARGET, deadline_seconds=deadline_seconds, poll_interval_seconds=0.01, say=lambda _: None
    )


def test_wait_outlasts_an_outage(server: ApiServer, hook: KServeHook) -> None:
    server.change(inferenceservices=[service()], **rolled_out())
    server.refusals = [AWAY] * 6
    assert wait(hook).state == "ready"


def test_wait_ends_at_its_deadline(server: ApiServer, hook: KServeHook) -> None:
    server.change(inferenceservices=[service()], **rolled_out(ready=False))
    assert wait(hook, 0.0).state == "waiting"


def test_cause_is_the_first_line(server: ApiServer, hook: KServeHook) -> None:
    server.change(inferenceservices=[service()], **rolled_out(ready=False))
    error = explain(hook, SERVICE, TARGET, Verdict("failed", "no room"))
    first, *proof = str(error).splitlines()
    assert first == "InferenceService ml/churn: no room"
    assert "condition of InferenceService ml/churn: Ready=True" in proof


def test_unreadable_proof_does_not_take_the_place_of_the_cause(server: ApiServer, hook: KServeHook) -> None:
    server.refusals = [(403, "cannot list pods")]
    error = explain(hook, SERVICE, TARGET, Verdict("waiting", "pod p1 is not ready"))
    assert isinstance(error, DeploymentTimeoutError)
    assert str(error).startswith("InferenceService ml/churn: not ready in time: pod p1 is not ready\n(nothing more")


@pytest.mark.parametrize(
    ("on_failure", "plan", "text", "deletes"),
    [
        ("keep", {}, "nothing was undone", False),
        ("rollback", {}, "no former version of ours", False),
        ("rollback", {"former": MANIFEST}, "is not the one this task left", False),
        ("delete_if_created", {}, "was there before this task; it stays", False),
        ("delete_if_created", {"created": True}, "is deleted", True),
    ],
)
def test_after_a_failure(
    server: ApiServer, hook: KServeHook, on_failure: str, plan: dict[str, object], text: str, deletes: bool
) -> None:
    from dataclasses import asdict

    server.change(inferenceservices=[service(uid="u2")])
    fields = {"reference": SERVICE.to_dict(), "target": asdict(TARGET), "created": False, "changed": True, **plan}
    said = recover(hook, DeployPlan(**fields), on_failure, say=lambda _: None, wait_seconds=0)  # type: ignore[arg-type]
    assert text in said
    assert any(line.startswith("DELETE") for line in server.requests) is deletes
    assert not any(line.startswith("PATCH") for line in server.requests)


def test_rollback_asks_for_the_former_spec(server: ApiServer, hook: KServeHook) -> None:
    from dataclasses import asdict

    former, spec_hash = seal(MANIFEST, {"airflow-mlops/model-uri": "models:/m-old"})
    server.change(inferenceservices=[service()])
    plan = DeployPlan(reference=SERVICE.to_dict(), target=asdict(TARGET), created=False, changed=True, former=former)
    said = recover(hook, plan, "rollback", say=lambda _: None, wait_seconds=0)
    assert said == f"on_failure=rollback: asked for the former version again (spec {spec_hash}, model models:/m-old)"
    assert server.requests[-1].startswith("PATCH")
    assert read_spec_hash(former) == spec_hash
