"""Typed fields, overrides and whole manifests become the object that KServe gets."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops_provider.manifests.contract import build_contract
from airflow_mlops_provider.manifests.inference_service import (
    ServiceOptions,
    adopt_manifest,
    build_inference_service,
    check_service_name,
)

MODEL = {"uri": "models:/m-1", "digest": "sha256:ab", "name": "churn", "version": None, "run_id": "r1"}
CONTRACT = build_contract(
    MODEL, tracking_uri="http://mlflow:5000", environment="prod", data_interval=("2026-01-01", "2026-01-02")
)


def build(**changes: Any) -> dict[str, Any]:
    options = ServiceOptions(**{"name": "churn", "namespace": "ml", **changes})
    return build_inference_service(options, MODEL, CONTRACT)


def predictor(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = build(**changes)["spec"]["predictor"]
    return found


def test_least_that_can_be_said() -> None:
    manifest = build(labels={"a": "b"})
    assert manifest["metadata"] == {
        "name": "churn",
        "namespace": "ml",
        "labels": {"a": "b"},
        "annotations": {"serving.kserve.io/autoscalerClass": "none"},
    }
    served = manifest["spec"]["predictor"]
    assert (served["minReplicas"], served["maxReplicas"]) == (1, 1)
    assert set(served) == {"minReplicas", "maxReplicas", "model"}
    model = served["model"]
    assert model["storageUri"] == "mlflow://models:/m-1?digest=sha256:ab"
    assert (model["runtime"], model["protocolVersion"], model["modelFormat"]) == (
        "mlops-mlflow",
        "v2",
        {"name": "mlflow"},
    )


def test_container_is_told_nothing_that_differs_from_run_to_run() -> None:
    told = {item["name"]: item["value"] for item in predictor()["model"]["env"]}
    assert told == {
        "MODEL_URI": "models:/m-1",
        "MODEL_NAME": "churn",
        "MODEL_RUN_ID": "r1",
        "MODEL_DIGEST": "sha256:ab",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MLOPS_ENVIRONMENT": "prod",
    }


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"resources": {"cpu": "1", "gpu": 1}}, ("model", "resources", "limits"), {"cpu": "1", "nvidia.com/gpu": "1"}),
        ({"resources": {"memory": "2Gi", "gpu": 0}}, ("model", "resources", "requests"), {"memory": "2Gi"}),
        ({"node_selector": {"pool": "gpu"}}, ("nodeSelector",), {"pool": "gpu"}),
        ({"tolerations": [{"key": "gpu"}]}, ("tolerations",), [{"key": "gpu"}]),
        ({"service_account_name": "runner"}, ("serviceAccountName",), "runner"),
        ({"image": "a/b:1"}, ("model", "image"), "a/b:1"),
        ({"image_pull_policy": "Never"}, ("model", "imagePullPolicy"), "Never"),
        ({"image_pull_secrets": ["reg"]}, ("imagePullSecrets",), [{"name": "reg"}]),
        ({"runtime": None}, ("model", "runtime"), None),
        ({"protocol": "v1"}, ("model", "protocolVersion"), "v1"),
        ({"storage": "pvc://models/churn/"}, ("model", "storageUri"), "pvc://models/churn/"),
        ({"max_replicas": 4, "scale_metric": "cpu", "scale_target": 70}, ("scaleTarget",), 70),
        ({"logger": {"url": "http://log", "mode": "all"}}, ("logger",), {"url": "http://log", "mode": "all"}),
        ({"overrides": {"predictor": {"timeout": 60}}}, ("timeout",), 60),
        ({"overrides": {"predictor": {"model": {"args": ["-v"]}}}}, ("model", "args"), ["-v"]),
    ],
)
def test_every_field_has_its_place(changes: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    found: Any = predictor(**changes)
    for name in path:
        found = found.get(name)
    assert found == value


def test_an_autoscaler_only_where_the_number_of_pods_may_change() -> None:
    assert "annotations" not in build(min_replicas=1, max_replicas=3)["metadata"]
    assert build(min_replicas=2, max_replicas=2)["metadata"]["annotations"] == {
        "serving.kserve.io/autoscalerClass": "none"
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Churn"}, "lower-case"),
        ({"name": "1churn"}, "begin with a letter"),
        ({"name": "c" * 60}, "too long for namespace 'ml'"),
        ({"protocol": "v3"}, "protocol is"),
        ({"storage": "s3"}, "storage is"),
        ({"min_replicas": 3, "max_replicas": 2}, r"max_replicas \(2\) is less than min_replicas \(3\)"),
        ({"min_replicas": 0}, "leaves no pod"),
        ({"env_vars": {"MODEL_URI": "x"}}, "MODEL_URI: set by the operator"),
        ({"overrides": {"predictr": {}}}, "overrides.predictr"),
        ({"overrides": {"predictor": {"minReplicas": 7}}}, "overrides.predictor.minReplicas: is set by an argument"),
        ({"overrides": {"predictor": {"canaryTrafficPercent": 10}}}, "KServe ignores it in Standard mode"),
    ],
)
def test_what_kserve_would_refuse_late_or_ignore_is_refused_here(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_zero_pods_where_a_request_starts_one() -> None:
    knative = {"serving.kserve.io/deploymentMode": "Knative"}
    assert predictor(min_replicas=0, annotations=knative)["minReplicas"] == 0


def test_longest_name_that_fits() -> None:
    check_service_name("c" * (63 - len("-predictor-ml")), "ml")


LLM = {
    "apiVersion": "serving.kserve.io/v1alpha2",
    "kind": "LLMInferenceService",
    "metadata": {"labels": {"team": "nlp"}},
    "spec": {"replicas": 2},
}


def adopt(manifest: Any) -> dict[str, Any]:
    return adopt_manifest(manifest, name="chat", namespace="ml", labels={"ours": "yes"}, model=MODEL)


def test_whole_manifest_is_named_labelled_and_told_its_model() -> None:
    adopted = adopt(LLM)
    assert adopted["metadata"] == {"name": "chat", "namespace": "ml", "labels": {"team": "nlp", "ours": "yes"}}
    assert adopted["spec"] == {"replicas": 2, "model": {"uri": "mlflow://models:/m-1?digest=sha256:ab"}}
    assert "model" not in LLM["spec"], "the caller's own is left alone"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "Deployment"}, "is none of InferenceService, LLMInferenceService"),
        ({"apiVersion": "apps/v1"}, "is none of"),
        ({"spec": None}, "has no spec"),
        ({"metadata": {"name": "other"}}, "manifest.metadata.name is 'other'"),
        ({"metadata": {"ownerReferences": []}}, "only labels and annotations"),
    ],
)
def test_manifest_of_something_else_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adopt({**LLM, **changes})
