"""The candidate as an object, whose it is, and where a share of the traffic stands."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import ConflictError
from airflow_mlops_provider.manifests.canary_candidate import (
    build_candidate,
    candidate_name,
    check_candidate,
    divides_traffic,
    entry_as_service,
    served_model,
    undivided_route,
    undivided_traffic,
    with_entry,
    with_percent,
    without_canary,
)
from airflow_mlops_provider.manifests.inference_service_seal import compute_spec_hash, read_spec_hash, seal
from airflow_mlops_provider.manifests.naming import MODEL_URI_ANNOTATION, ownership_labels


def wanted(model: str = "models:/m-2") -> dict[str, Any]:
    predictor = {
        "minReplicas": 2,
        "maxReplicas": 6,
        "scaleMetric": "cpu",
        "scaleTarget": 80,
        "model": {"modelFormat": {"name": "mlflow"}, "storageUri": f"mlflow://{model}"},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "churn", "namespace": "ml", "labels": ownership_labels("churn", "prod")},
        "spec": {"predictor": predictor},
    }


def sealed(model: str = "models:/m-2") -> dict[str, Any]:
    return seal(wanted(model), {MODEL_URI_ANNOTATION: model})[0]


def test_candidate_is_the_same_spec_in_one_pod_under_another_name() -> None:
    before = copy.deepcopy(stable := wanted())
    candidate = build_candidate(stable, "churn-candidate")
    assert stable == before
    assert candidate["metadata"]["name"] == "churn-candidate"
    labels = candidate["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "candidate"
    assert labels["airflow-mlops/canary-of"] == "churn"
    assert labels["networking.kserve.io/visibility"] == "cluster-local"
    assert labels["app.kubernetes.io/instance"] == stable["metadata"]["labels"]["app.kubernetes.io/instance"]
    predictor = candidate["spec"]["predictor"]
    assert predictor == {"minReplicas": 1, "maxReplicas": 1, "model": stable["spec"]["predictor"]["model"]}
    assert candidate["metadata"]["annotations"] == {"serving.kserve.io/autoscalerClass": "none"}
    assert compute_spec_hash(candidate) != compute_spec_hash(stable)


def test_what_has_no_predictor_cannot_be_tried() -> None:
    with pytest.raises(ValueError, match="a canary needs an InferenceService with a predictor, not LLMInference"):
        build_candidate({**wanted(), "kind": "LLMInferenceService"}, "x")


@pytest.mark.parametrize(("given", "expected"), [(None, "churn-candidate"), ("churn-next", "churn-next")])
def test_candidate_is_named_after_the_service(given: str | None, expected: str) -> None:
    assert candidate_name("churn", "ml", given) == expected


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [("churn", "churn", "own name"), ("c" * 40, None, "is too long .*; give a shorter candidate_name")],
)
def test_name_that_cannot_be_right_is_refused(name: str, given: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        candidate_name(name, "ml-prod", given)


def test_candidate_of_this_service_is_ours() -> None:
    check_candidate(build_candidate(wanted(), "churn-candidate"), "churn", "prod")


@pytest.mark.parametrize(
    ("labels", "stable", "message"),
    [
        ({"app.kubernetes.io/managed-by": "helm"}, "churn", "is not ours"),
        ({"airflow-mlops/environment": "dev"}, "churn", "belongs to environment 'dev'"),
        ({"app.kubernetes.io/component": "online"}, "churn", "is a service of its own, no candidate"),
        ({}, "fraud", "is the candidate of service 'churn', not of 'fraud'"),
    ],
)
def test_any_other_object_is_refused(labels: dict[str, str], stable: str, message: str) -> None:
    live = build_candidate(wanted(), "churn-candidate")
    live["metadata"]["labels"] |= labels
    with pytest.raises(ConflictError, match=message):
        check_candidate(live, stable, "prod")


def test_share_of_the_traffic_does_not_change_the_seal() -> None:
    asked = with_percent(sealed(), 10)
    assert asked["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert read_spec_hash(asked) == compute_spec_hash(wanted())
    assert divides_traffic(asked)
    assert without_canary(asked) == sealed()
    assert not divides_traffic(sealed())


def test_entry_stands_beside_the_former_version_and_has_a_seal_of_its_own() -> None:
    former = sealed("models:/m-1")
    asked = with_entry(former, sealed("models:/m-2"), 10)
    assert asked["spec"]["predictor"] == former["spec"]["predictor"]
    (entry,) = asked["spec"]["canary"]
    assert entry["trafficPercent"] == 10
    assert entry["predictor"]["name"] == "candidate"
    assert not {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"} & set(entry["predictor"])
    assert read_spec_hash(asked) == compute_spec_hash(wanted("models:/m-1"))
    assert read_spec_hash(entry_as_service({**asked, "metadata": {}})) == compute_spec_hash(wanted("models:/m-2"))
    assert divides_traffic(asked)
    assert without_canary(asked) == former
    assert len(with_entry(asked, sealed("models:/m-3"), 20)["spec"]["canary"]) == 1


def test_service_without_entry_shows_its_own_seal() -> None:
    assert read_spec_hash(entry_as_service(sealed())) == compute_spec_hash(wanted())


def test_served_model_is_what_the_annotation_says() -> None:
    assert served_model(sealed("models:/m-1")) == "models:/m-1"
    assert served_model(None) == "an unknown model"


@pytest.mark.parametrize(
    ("traffic", "problem"),
    [
        ([{"latestRevision": True, "percent": 10}, {"latestRevision": False, "percent": 90}], None),
        ([{"latestRevision": True, "percent": 100}], "has 100 per cent of the traffic, not 10"),
        ([], "has 0 per cent"),
    ],
)
def test_share_is_what_knative_says(traffic: list[dict[str, Any]], problem: str | None) -> None:
    found = undivided_traffic({"status": {"components": {"predictor": {"traffic": traffic}}}}, 10)
    assert found is None if problem is None else problem in str(found)


def route(*backends: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "churn"}, "spec": {"rules": [{}, {"backendRefs": list(backends)}]}}


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (route({"name": "churn-predictor", "weight": 90}, {"name": "churn-candidate-predictor", "weight": 10}), None),
        (route({"name": "churn-predictor", "weight": 90}, {"name": "churn-candidate-predictor", "weight": 5}), "10"),
        (route({"name": "churn-predictor"}), "no rule of HTTPRoute churn gives the canary the weight 10"),
        (None, "has no HTTPRoute"),
    ],
)
def test_share_is_what_the_route_says(found: dict[str, Any] | None, problem: str | None) -> None:
    answer = undivided_route(found, 10)
    assert answer is None if problem is None else problem in str(answer)
