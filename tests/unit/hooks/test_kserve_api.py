"""What the API server's refusals mean, and how requests look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import (
    AccessDeniedError,
    ConflictError,
    DeploymentFailedError,
    MLOpsProviderError,
    TransientError,
)
from airflow_mlops_provider.hooks.kserve_api import (
    NotFoundError,
    ServiceReference,
    apply_service,
    delete_service,
    error_of,
)

SERVICE = ServiceReference(name="churn", namespace="ml")
CAUSES = [
    {
        "reason": "FieldManagerConflict",
        "field": ".spec.predictor.minReplicas",
        "message": 'conflict with "kubectl-edit"',
    }
]


@pytest.mark.parametrize(
    ("status", "answer", "kind", "message"),
    [
        (
            409,
            {"message": "Apply failed", "details": {"causes": CAUSES}},
            ConflictError,
            r"minReplicas \(conflict.*kubectl",
        ),
        (409, {"message": "Precondition failed: UID in precondition"}, ConflictError, "replaced by another object"),
        (409, {"message": "the object has been modified"}, TransientError, "same moment"),
        (403, {"message": 'cannot patch resource "inferenceservices"'}, AccessDeniedError, "not allowed.*rbac.yaml"),
        (403, {"message": "exceeded quota: objects"}, DeploymentFailedError, "over the quota"),
        (
            400,
            {"message": 'admission webhook "x" denied the request: bad name'},
            DeploymentFailedError,
            "admission.*bad name",
        ),
        (422, {"message": "spec.foo: unknown"}, DeploymentFailedError, "refused by the API server"),
        (500, {"message": "failed calling webhook: connection refused"}, TransientError, "webhook does not answer"),
        (503, {"message": "etcd"}, TransientError, "answered 503"),
        (429, {"message": "slow down"}, TransientError, "answered 429"),
        (0, "connection refused", TransientError, "connection refused"),
        (401, {"message": "Unauthorized"}, AccessDeniedError, "does not accept"),
        (404, {"message": "not found"}, NotFoundError, "is KServe installed"),
    ],
)
def test_refusals(status: int, answer: Any, kind: type[MLOpsProviderError], message: str) -> None:
    body = answer if isinstance(answer, str) else json.dumps(answer)
    error = error_of(status, body, str(SERVICE))
    assert type(error) is kind
    with pytest.raises(kind, match=f"(?s)^InferenceService ml/churn: .*{message}"):
        raise error


def test_apply_takes_no_field_from_anybody() -> None:
    manifest = {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": {"name": "churn", "namespace": "ml"},
    }
    request = apply_service(manifest, dry_run=True)
    assert (request.method, request.content_type) == ("PATCH", "application/apply-patch+yaml")
    assert request.query == {"fieldManager": "airflow-mlops", "force": "false", "dryRun": "All"}
    assert request.path == "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices/churn"
    assert "dryRun" not in apply_service(manifest, dry_run=False).query


def test_delete_means_one_object() -> None:
    assert delete_service(SERVICE, "u1").body["preconditions"] == {"uid": "u1"}


def test_reference_travels_as_json() -> None:
    assert ServiceReference(**json.loads(json.dumps(SERVICE.to_dict()))) == SERVICE
