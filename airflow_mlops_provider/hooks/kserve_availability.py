"""Is an online service available now, and is it the right model that answers?

Decides whom to ask (every pod that gets requests, of whatever version) and which models may answer. How a prediction is
judged is :mod:`.kserve_verify`'s. Does I/O through the KServe hook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import PredictionFailedError
from airflow_mlops_provider.hooks.kserve_http import PodDoor
from airflow_mlops_provider.hooks.kserve_verify import MOST_PODS, pass_smoke_test, stated_url, wait_until_loaded
from airflow_mlops_provider.manifests.inference_service_seal import pod_annotations, read_spec_hash
from airflow_mlops_provider.manifests.naming import MODEL_URI_ANNOTATION
from airflow_mlops_provider.manifests.rollout_evidence import pod_is_ready

if TYPE_CHECKING:
    from airflow_mlops_provider.hooks.kserve import KServeHook
    from airflow_mlops_provider.hooks.kserve_api import ServiceReference
    from airflow_mlops_provider.manifests.inference_service_request import SmokeTest

#: A pod in rotation answers at once; waiting would hide an outage from the probe.
_READY_SECONDS = 0.0


def check_availability(
    hook: KServeHook,
    reference: ServiceReference,
    *,
    protocol: str,
    test: SmokeTest | None,
    expect_model_uri: str,
    expect_spec_hash: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Ask every ready pod (at most 10) and return what the service is.

    :param test: with its request; None: HTTP readiness only.
    :param expect_spec_hash: of the last deployment. Where the service is another by now, its own model may answer too:
        the next deployment is under way. None: *expect_model_uri* and no other.
    :return: ``{"name", "namespace", "uid", "url", "spec_hash", "model_uris", "sources", "latency_seconds"}``
    :raises PredictionFailedError: no service, no ready pod, another model, or no proper answer.
    """
    seen = hook.observe(reference)
    service = seen.service
    if service is None:
        raise PredictionFailedError(f"{reference} does not exist; deploy it, or find out who deleted it")
    pods = [pod for pod in seen.pods if pod_is_ready(pod)][:MOST_PODS]
    if not pods:
        raise PredictionFailedError(f"{reference} is not available: none of its {len(seen.pods)} pods is ready")
    allowed = {expect_model_uri} | _next_model(service, expect_spec_hash, say)
    models = {str(pod["metadata"]["name"]): _model_of(pod) for pod in pods}
    for pod, uri in models.items():
        if uri not in allowed:
            raise PredictionFailedError(f"pod {pod} serves model {uri or 'unknown'}, not {expect_model_uri}")
    doors = [PodDoor(hook, pod) for pod in pods]
    wait_until_loaded(doors, protocol, reference.name, seconds=_READY_SECONDS)
    latency = None
    if test is not None:
        latency = pass_smoke_test(doors, test, lambda: test.request, say).latency_seconds
    return {
        "name": reference.name,
        "namespace": reference.namespace,
        "uid": service["metadata"].get("uid"),
        "url": stated_url(service),
        "spec_hash": read_spec_hash(service),
        "model_uris": sorted(set(models.values())),
        "sources": sorted(models),
        "latency_seconds": latency,
    }


def _model_of(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(MODEL_URI_ANNOTATION, ""))


def _next_model(service: Mapping[str, Any], spec_hash: str | None, say: Callable[[str], None]) -> set[str]:
    if spec_hash is None or read_spec_hash(service) == spec_hash:
        return set()
    uri = pod_annotations(service).get(MODEL_URI_ANNOTATION)
    say(f"The service is no longer what was deployed last ({spec_hash}): it asks for {uri} now")
    return {uri} if uri else set()
