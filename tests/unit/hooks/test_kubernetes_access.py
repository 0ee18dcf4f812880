"""A missing permission is recognised in whatever carries it, and named with the file that gives it."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client.exceptions import ApiException

from airflow_mlops_provider.hooks.failing import missing_permissions_fail
from airflow_mlops_provider.hooks.kubernetes_access import missing_permission

USER = "system:serviceaccount:airflow:airflow-mlops"
SAID = f'pods is forbidden: User "{USER}" cannot list resource "pods" in API group "" in the namespace "ml-prod"'
NAMED = (
    f"the account '{USER}' may not list pods in namespace 'ml-prod'; bind its Role there to the account: "
    "deploy/kserve/rbac.yaml"
)


def refusal(status: int = 403, reason: str = "Forbidden") -> ApiException:
    error = ApiException(status=status, reason=reason)
    error.body = json.dumps({"kind": "Status", "message": SAID})
    return error


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SAID, NAMED),
        (str(refusal()), NAMED),
        (json.dumps({"text": str(refusal())}), NAMED),
        (
            f'User "{USER}" cannot patch resource "inferenceservices" in API group "serving.kserve.io" '
            'in the namespace "ml"',
            f"the account '{USER}' may not patch inferenceservices of API group serving.kserve.io in namespace 'ml'; "
            "bind its Role there to the account: deploy/kserve/rbac.yaml",
        ),
        (
            f'User "{USER}" cannot get resource "clusterservingruntimes" in API group "serving.kserve.io" '
            "at the cluster scope",
            f"the account '{USER}' may not get clusterservingruntimes of API group serving.kserve.io in the cluster; "
            "bind its ClusterRole to the account: deploy/kserve/rbac.yaml",
        ),
        ('pods "x" is forbidden: exceeded quota: small', None),
        ("the model server forbids it", None),
    ],
)
def test_missing_permission_is_named(text: str, named: str | None) -> None:
    assert missing_permission(text) == named


@pytest.mark.parametrize(
    "error",
    [
        refusal(),
        ApiException(status=0, reason=f"Handshake status 403 Forbidden -+-+- b'{json.dumps({'message': SAID})}'"),
        AirflowException(f"Traceback …\n{refusal()}"),
    ],
)
def test_provider_errors_about_it_stop_the_retries(error: Exception) -> None:
    named = pytest.raises(AirflowFailException, match=r"^AccessDeniedError: the account .* may not list pods")
    with named as caught, missing_permissions_fail():
        raise error
    assert caught.value.__cause__ is error


def test_cause_is_found_below_another_error() -> None:
    with pytest.raises(AirflowFailException, match="may not list pods"), missing_permissions_fail():
        raise AirflowException("pod failed") from refusal()


@pytest.mark.parametrize("error", [ApiException(status=403, reason="exceeded quota"), AirflowFailException("final")])
def test_anything_else_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, missing_permissions_fail():
        raise error
    assert caught.value is error
