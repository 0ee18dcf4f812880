"""The candidate as an object: a service of its own beside the stable one, or a share of the stable one's traffic.

Decides the candidate's name, labels and size, whose candidate an object is, and where a percentage stands in KServe's
API. Sealing is :mod:`.inference_service_seal`'s. Pure, no I/O.
API: https://github.com/kserve/kserve/blob/v0.20.0/pkg/apis/serving/v1beta1/inference_service.go
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_mlops_provider.exceptions import ConflictError
from airflow_mlops_provider.manifests.inference_service import AUTOSCALER_ANNOTATION, KIND, check_service_name
from airflow_mlops_provider.manifests.inference_service_seal import check_ownership, describe, pod_annotations
from airflow_mlops_provider.manifests.naming import MODEL_URI_ANNOTATION, PREFIX, label_value

COMPONENT_LABEL: Final = "app.kubernetes.io/component"
COMPONENT: Final = "candidate"
#: Name of the stable service that a candidate is compared with.
CANARY_OF_LABEL: Final = f"{PREFIX}/canary-of"
SUFFIX: Final = "-candidate"
#: KServe makes no address outside the cluster for a service with this label.
_HIDDEN: Final = {"networking.kserve.io/visibility": "cluster-local"}
#: ``predictor.name`` of the entry in ``spec.canary``; KServe calls its Deployment ``<service>-candidate-predictor``.
_ENTRY_NAME: Final = "candidate"
#: What KServe's webhook refuses in an entry of ``spec.canary``, and what it derives from the percentage there.
_NOT_IN_ENTRY: Final = ("minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")
_SCALING: Final = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")


def candidate_name(name: str, namespace: str, given: str | None = None) -> str:
    """Return the candidate's name, ``<name>-candidate`` unless *given*.

    :raises ValueError: it is the stable service's own, or too long for KServe.
    """
    found = given or f"{name}{SUFFIX}"
    if found == name:
        raise ValueError(f"candidate_name {found!r} is the stable service's own name; leave it out, or give another")
    try:
        check_service_name(found, namespace)
    except ValueError as error:
        raise ValueError(f"candidate of {name!r}: {error}; give a shorter candidate_name") from error
    return found


def build_candidate(manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the candidate of a service, not yet sealed: the same spec under another name, in one pod.

    :param manifest: the stable service as it is wanted.
    :raises ValueError: it is no InferenceService with a predictor.
    """
    if manifest["kind"] != KIND or "predictor" not in manifest["spec"]:
        raise ValueError(f"a canary needs an InferenceService with a predictor, not {manifest['kind']}")
    candidate = copy.deepcopy(dict(manifest))
    metadata, predictor = candidate["metadata"], candidate["spec"]["predictor"]
    metadata["name"] = name
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        **_HIDDEN,
        COMPONENT_LABEL: COMPONENT,
        CANARY_OF_LABEL: label_value(manifest["metadata"]["name"]),
    }
    metadata["annotations"] = {**(metadata.get("annotations") or {}), AUTOSCALER_ANNOTATION: "none"}
    for field in _SCALING:
        predictor.pop(field, None)
    predictor |= {"minReplicas": 1, "maxReplicas": 1}
    return candidate


def check_candidate(live: Mapping[str, Any], stable: str, environment: str | None) -> None:
    """Refuse an object that has the candidate's name and is none of ours for this service.

    :raises ConflictError: names the object and whose it is.
    """
    check_ownership(live, environment)
    labels = live["metadata"].get("labels") or {}
    if labels.get(COMPONENT_LABEL) != COMPONENT:
        raise ConflictError(
            f"{describe(live)} is a service of its own, no candidate (label {COMPONENT_LABEL} is "
            f"{labels.get(COMPONENT_LABEL)!r}); give another candidate_name"
        )
    if labels.get(CANARY_OF_LABEL) != label_value(stable):
        raise ConflictError(
            f"{describe(live)} is the candidate of service {labels.get(CANARY_OF_LABEL)!r}, not of {stable!r}; give "
            "another candidate_name"
        )


def served_model(manifest: Mapping[str, Any] | None) -> str:
    """Return the URI of the model that a service was asked to serve, for messages."""
    found = pod_annotations(manifest).get(MODEL_URI_ANNOTATION) if manifest else None
    return found or "an unknown model"


def with_percent(sealed: Mapping[str, Any], percent: int) -> dict[str, Any]:
    """Return a sealed service that asks for a share of the traffic for its newest revision (Knative mode).

    The seal is the one without the share: the revision stays the same when the share grows.
    """
    asked = copy.deepcopy(dict(sealed))
    asked["spec"]["predictor"]["canaryTrafficPercent"] = percent
    return asked


def with_entry(former: Mapping[str, Any], sealed: Mapping[str, Any], percent: int) -> dict[str, Any]:
    """Return the former service with the new version as its canary (``spec.canary``, KServe 0.21).

    :param former: what we asked for before; its predictor stays as it is.
    :param sealed: the service as it is wanted; its seal tells the canary's pods from the former version's.
    """
    entry = copy.deepcopy(dict(sealed["spec"]["predictor"]))
    for field in _NOT_IN_ENTRY:
        entry.pop(field, None)
    asked = without_canary(former)
    asked["spec"]["canary"] = [{"trafficPercent": percent, "predictor": {**entry, "name": _ENTRY_NAME}}]
    return asked


def without_canary(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a service that divides no traffic."""
    plain = copy.deepcopy(dict(asked))
    plain["spec"].pop("canary", None)
    plain["spec"]["predictor"].pop("canaryTrafficPercent", None)
    return plain


def entry_of(service: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return our entry of a service's ``spec.canary``, None without one."""
    entries = (service.get("spec") or {}).get("canary") or []
    return next((item for item in entries if item["predictor"].get("name") == _ENTRY_NAME), None)


def divides_traffic(service: Mapping[str, Any]) -> bool:
    """Whether a canary has a share of a service's traffic: its seal is not that of all its pods then."""
    return "canaryTrafficPercent" in service["spec"].get("predictor", {}) or entry_of(service) is not None


def entry_as_service(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the canary of a service as if it were the service, for the judgement of its rollout.

    Without one it is the service itself, whose seal is another: the canary was taken away.
    """
    found = entry_of(service)
    return dict(service) if found is None else {**service, "spec": {"predictor": found["predictor"]}}


def undivided_traffic(service: Mapping[str, Any], percent: int) -> str | None:
    """Return why the newest revision has not got its share yet, None where it has (Knative mode)."""
    status = (service.get("status") or {}).get("components") or {}
    traffic = (status.get("predictor") or {}).get("traffic") or []
    share = sum(item.get("percent") or 0 for item in traffic if item.get("latestRevision"))
    return None if share == percent else f"the newest revision has {share} per cent of the traffic, not {percent}"


def undivided_route(route: Mapping[str, Any] | None, percent: int) -> str | None:
    """Return why a service's route does not give the canary its share yet, None where it does (``spec.canary``)."""
    if route is None:
        return "the service has no HTTPRoute"
    rules: Sequence[Mapping[str, Any]] = (route.get("spec") or {}).get("rules") or []
    for rule in rules:
        for backend in rule.get("backendRefs") or ():
            if f"-{_ENTRY_NAME}-predictor" in backend["name"] and backend.get("weight") == percent:
                return None
    return f"no rule of HTTPRoute {route['metadata']['name']} gives the canary the weight {percent}"
