"""Hash, ownership, and what we asked for before."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import ConflictError
from airflow_mlops_provider.manifests.inference_service_seal import (
    SPEC_HASH_ANNOTATION,
    asked_before,
    check_ownership,
    compute_spec_hash,
    pod_annotations,
    read_spec_hash,
    seal,
)

MANIFEST: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": "churn",
        "namespace": "ml",
        "labels": {"app.kubernetes.io/managed-by": "airflow-mlops-provider"},
    },
    "spec": {"predictor": {"minReplicas": 1, "annotations": {"own": "1"}, "model": {"args": ["a", "b"]}}},
}


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(MANIFEST)
    place: Any = manifest
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return manifest


def test_lineage_does_not_change_the_hash_and_goes_to_the_pods() -> None:
    first, one = seal(MANIFEST, {"run": "1"})
    second, two = seal(MANIFEST, {"run": "2"})
    assert one == two == read_spec_hash(first) == read_spec_hash(second) == compute_spec_hash(MANIFEST)
    assert pod_annotations(second) == {"own": "1", "run": "2", SPEC_HASH_ANNOTATION: one}
    assert read_spec_hash(MANIFEST) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "predictor", "minReplicas"), 2),
        (("spec", "predictor", "annotations"), {"own": "2"}),
        (("metadata", "labels"), {"a": "b"}),
        (("metadata", "annotations"), {"a": "b"}),
    ],
)
def test_all_that_is_asked_for_changes_the_hash(path: tuple[str, ...], value: Any) -> None:
    assert compute_spec_hash(changed(path, value)) != compute_spec_hash(MANIFEST)


def test_llm_service_has_its_pod_annotations_elsewhere() -> None:
    sealed, spec_hash = seal({**MANIFEST, "kind": "LLMInferenceService", "spec": {"replicas": 1}}, {})
    assert sealed["spec"] == {"replicas": 1, "annotations": {SPEC_HASH_ANNOTATION: spec_hash}}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "is not ours.*kubectl-apply"),
        ({"app.kubernetes.io/managed-by": "Helm"}, "'Helm'"),
        (
            {"app.kubernetes.io/managed-by": "airflow-mlops-provider", "airflow-mlops/environment": "test"},
            "belongs to environment 'test', not 'prod'",
        ),
    ],
)
def test_object_of_somebody_else_is_refused_by_name(labels: dict[str, str], message: str) -> None:
    live = changed(("metadata", "labels"), labels)
    live["metadata"]["managedFields"] = [{"manager": "kubectl-apply"}]
    with pytest.raises(ConflictError, match=message) as caught:
        check_ownership(live, "prod")
    assert "InferenceService ml/churn" in str(caught.value)


def test_what_we_asked_for_is_read_from_the_managed_fields() -> None:
    live = copy.deepcopy(MANIFEST)
    live["metadata"] |= {"uid": "u", "generation": 3, "annotations": {"theirs": "x"}}
    live["spec"]["predictor"] |= {"maxReplicas": 4, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    fields = {
        "f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/managed-by": {}}},
        "f:spec": {
            "f:predictor": {
                "f:minReplicas": {},
                "f:annotations": {"f:own": {}},
                "f:model": {"f:args": {}},
                "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
            }
        },
    }
    entry = {"manager": "airflow-mlops", "operation": "Apply", "apiVersion": live["apiVersion"], "fieldsV1": fields}
    live["metadata"]["managedFields"] = [{"manager": "manager", "operation": "Update", "fieldsV1": {}}, entry]
    expected = copy.deepcopy(MANIFEST)
    expected["spec"]["predictor"]["env"] = [{"name": "A", "value": "1"}]
    assert asked_before(live) == expected


def test_nothing_was_asked_for_before_where_another_manager_wrote() -> None:
    live = copy.deepcopy(MANIFEST)
    live["metadata"]["managedFields"] = [{"manager": "airflow-mlops", "operation": "Update", "fieldsV1": {}}]
    assert asked_before(live) is None
