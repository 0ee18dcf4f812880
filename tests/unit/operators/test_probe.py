"""The probe, asked of an API server that shows one service, its pods, and what they answer."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.exceptions import PredictionFailedError, TransientError
from airflow_mlops_provider.manifests.inference_service_seal import SPEC_HASH_ANNOTATION
from airflow_mlops_provider.manifests.naming import MODEL_URI_ANNOTATION
from airflow_mlops_provider.operators.probe import ProbeEndpointOperator

SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices/churn"
PODS = "/api/v1/namespaces/ml/pods"
NONE: tuple[int, Any] = (200, {"items": []})
REQUEST = {"request": {"inputs": [1]}}


def service(spec_hash: str = "one", model: str = "models:/m-0") -> dict[str, Any]:
    annotations = {SPEC_HASH_ANNOTATION: spec_hash, MODEL_URI_ANNOTATION: model}
    return {
        "kind": "InferenceService",
        "metadata": {"name": "churn", "namespace": "ml", "uid": "u1"},
        "spec": {"predictor": {"annotations": annotations}},
        "status": {"url": "http://churn.example"},
    }


def pod(name: str, model: str = "models:/m-0", *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ml", "annotations": {MODEL_URI_ANNOTATION: model}},
        "spec": {"containers": [{"name": "kserve-container", "ports": [{"containerPort": 8080}]}]},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def answers(*pods: dict[str, Any], shown: Any = None, prediction: tuple[int, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"GET {SERVICE}": (200, shown or service()),
        "GET /apis/apps/v1/namespaces/ml/deployments": NONE,
        "GET /apis/apps/v1/namespaces/ml/replicasets": NONE,
        f"GET {PODS}": (200, {"items": list(pods)}),
    }
    for item in pods:
        base = f"{PODS}/{item['metadata']['name']}:8080/proxy"
        found[f"GET {base}/v2/models/churn/ready"] = (200, {"ready": True})
        found[f"POST {base}/v2/models/churn/infer"] = prediction or (200, {"outputs": [{"shape": [1]}]})
    return found


def operator(**fields: Any) -> ProbeEndpointOperator:
    place = {"name": "churn", "namespace": "ml", "kubernetes_conn_id": "k8s_prod", "mlflow_conn_id": "mlflow_prod"}
    return ProbeEndpointOperator(task_id="probe", **{**place, "smoke_test": REQUEST, **fields})


class Events(list[Any]):
    """Stands for Airflow's accessor, which asks the supervisor of a running task."""

    def ascending(self, _: bool) -> Events:
        return self

    def limit(self, _: int) -> Events:
        return self


def context_with(resolved: dict[str, Any], *events: dict[str, Any]) -> Any:
    asset = Asset("prod.churn.endpoint")
    extras = [SimpleNamespace(extra={"model": resolved, "service": event}) for event in events]
    return {"inlet_events": {asset: Events(extras)}}


def test_every_ready_pod_is_asked(kube_api: Any, resolved: dict[str, Any]) -> None:
    api = kube_api(answers(pod("a"), pod("b"), pod("c", ready=False)))
    seen = operator(model=resolved).execute({})
    assert seen["sources"] == ["a", "b"]
    assert (seen["uid"], seen["url"], seen["spec_hash"]) == ("u1", "http://churn.example", "one")
    assert seen["model_uris"] == ["models:/m-0"]
    assert seen["latency_seconds"] > 0
    assert json.dumps(seen)
    assert api.bodies.count({"inputs": [1]}) == 2


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ({f"GET {SERVICE}": (404, {})}, "InferenceService ml/churn does not exist; deploy it"),
        (answers(), "not available: none of its 0 pods is ready"),
        (answers(pod("a", ready=False)), "not available: none of its 1 pods is ready"),
        (answers(pod("a"), pod("b", "models:/m-9")), "pod b serves model models:/m-9, not models:/m-0"),
        (answers(pod("a"), prediction=(500, {"error": "boom"})), "pod a: the prediction failed: it answered 500"),
        (
            {**answers(pod("a")), f"GET {PODS}/a:8080/proxy/v2/models/churn/ready": (503, {})},
            "pod a: the model is not loaded",
        ),
    ],
)
def test_what_is_not_available_is_red_and_may_be_tried_again(
    kube_api: Any, resolved: dict[str, Any], shown: dict[str, Any], message: str
) -> None:
    kube_api({**answers(), **shown})
    with pytest.raises(PredictionFailedError, match=message):
        operator(model=resolved).execute({})


def test_probe_expects_what_was_deployed_last(kube_api: Any, resolved: dict[str, Any]) -> None:
    kube_api(answers(pod("a", "models:/m-9"), shown=service("one", "models:/m-9")))
    probe = operator(inlets=[Asset("prod.churn.endpoint")])
    with pytest.raises(PredictionFailedError, match="pod a serves model models:/m-9, not models:/m-0"):
        probe.execute(context_with(resolved, {"spec_hash": "one"}))


def test_during_the_next_deployment_both_models_may_answer(kube_api: Any, resolved: dict[str, Any]) -> None:
    kube_api(answers(pod("a"), pod("b", "models:/m-9"), shown=service("two", "models:/m-9")))
    probe = operator(inlets=[Asset("prod.churn.endpoint")])
    seen = probe.execute(context_with(resolved, {"spec_hash": "one"}))
    assert seen["model_uris"] == ["models:/m-0", "models:/m-9"]


def test_before_the_first_deployment_there_is_nothing_to_probe(resolved: dict[str, Any]) -> None:
    with pytest.raises(AirflowSkipException, match="nothing has been deployed yet"):
        operator(inlets=[Asset("prod.churn.endpoint")]).execute(context_with(resolved))


def test_an_outage_of_mlflow_is_none_of_the_service(kube_api: Any, resolved: dict[str, Any]) -> None:
    api = kube_api(answers(pod("a")))
    probe = operator(inlets=[Asset("prod.churn.endpoint")], smoke_test={"from": "input_example"})
    seen = probe.execute(context_with(resolved, {"spec_hash": "one"}))
    assert seen["latency_seconds"] is None
    assert f"GET {PODS}/a:8080/proxy/v2/models/churn/ready" in api.asked
    with pytest.raises(TransientError):
        operator(model=resolved, smoke_test={"from": "input_example"}).execute({})
