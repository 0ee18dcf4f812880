"""An online service as a plain dictionary: typed fields, a model and overrides become an InferenceService.

Decides where each field goes in KServe's API and which overrides are refused because they would be ignored, or would
say a second time what a field says. What marks the object as ours is :mod:`.inference_service_seal`'s. Pure, no I/O.
API: https://github.com/kserve/kserve/blob/v0.20.0/pkg/apis/serving/v1beta1/inference_service.go
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_mlops_provider.manifests.batch_pod import build_env_vars, build_resources
from airflow_mlops_provider.manifests.contract import check_extra_names

API_VERSION: Final = "serving.kserve.io/v1beta1"
KIND: Final = "InferenceService"
LLM_KIND: Final = "LLMInferenceService"
#: Plurals in KServe's API group, by kind.
PLURALS: Final = {KIND: "inferenceservices", LLM_KIND: "llminferenceservices"}
AUTOSCALER_ANNOTATION: Final = "serving.kserve.io/autoscalerClass"
DEPLOYMENT_MODE_ANNOTATION: Final = "serving.kserve.io/deploymentMode"
#: KServe puts the model's container under this name.
PREDICTOR_CONTAINER: Final = "kserve-container"
STORAGE_CONTAINER: Final = "storage-initializer"
#: The same of an LLMInferenceService.
LLM_CONTAINER: Final = "main"

#: Modes and autoscalers that start the first pod when a request comes; in the others nothing would ever answer.
_FROM_ZERO: Final = ("Knative", "Serverless", "keda")
#: What an online container gets of the contract: nothing that differs from run to run, or each run would roll the pods.
_ONLINE_CONTRACT: Final = (
    "MODEL_URI",
    "MODEL_NAME",
    "MODEL_VERSION",
    "MODEL_RUN_ID",
    "MODEL_DIGEST",
    "MLFLOW_TRACKING_URI",
    "MLOPS_ENVIRONMENT",
)
_SPEC_PARTS: Final = ("predictor", "transformer", "explainer", "canary")
_DNS_LABEL_LENGTH: Final = 63
#: Standard mode's longest derived name, a DNS label: ``<name>-predictor``; with the namespace it is a host's label.
_SUFFIX: Final = "-predictor-"


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """What a person sets, rendered. Names and units are those of ``KServeDeployOperator``."""

    name: str
    namespace: str
    min_replicas: int = 1
    max_replicas: int | None = None
    resources: Mapping[str, Any] | None = None
    node_selector: Mapping[str, str] | None = None
    tolerations: Sequence[Mapping[str, Any]] | None = None
    service_account_name: str | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: Sequence[str] | None = None
    runtime: str | None = "mlops-mlflow"
    protocol: str = "v2"
    storage: str = "initializer"
    env_vars: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] | None = None
    scale_metric: str | None = None
    scale_target: int | None = None
    logger: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None


def check_options(options: ServiceOptions) -> None:
    """Refuse what KServe would refuse late, or not at all.

    :raises ValueError: names the argument and what to write instead.
    """
    check_service_name(options.name, options.namespace)
    if options.protocol not in ("v1", "v2"):
        raise ValueError(f"protocol is 'v1' or 'v2', not {options.protocol!r}")
    if options.storage != "initializer" and "://" not in options.storage:
        raise ValueError(f"storage is 'initializer' or the URI of a copy of the model, not {options.storage!r}")
    if options.max_replicas is not None and options.max_replicas < max(options.min_replicas, 1):
        raise ValueError(f"max_replicas ({options.max_replicas}) is less than min_replicas ({options.min_replicas})")
    annotations = options.annotations or {}
    modes = (annotations.get(DEPLOYMENT_MODE_ANNOTATION), annotations.get(AUTOSCALER_ANNOTATION))
    if options.min_replicas < 1 and not set(modes) & set(_FROM_ZERO):
        raise ValueError(
            "min_replicas=0 leaves no pod in KServe's Standard mode, and none is started by a request; use 1, or set "
            f"the annotation {DEPLOYMENT_MODE_ANNOTATION}: Knative, or {AUTOSCALER_ANNOTATION}: keda"
        )
    check_extra_names(list(options.env_vars or {}))


def check_service_name(name: str, namespace: str) -> None:
    """:raises ValueError: KServe derives DNS labels from the name, and this one is not fit for that."""
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if not name or not name[0].isalpha() or name.endswith("-") or set(name) - allowed:
        raise ValueError(f"name {name!r}: use lower-case letters, digits and '-', and begin with a letter")
    length = len(f"{name}{_SUFFIX}{namespace}")
    if length > _DNS_LABEL_LENGTH:
        raise ValueError(
            f"name {name!r} is too long for namespace {namespace!r}: KServe's host name {name}{_SUFFIX}{namespace} has "
            f"{length} characters, and a DNS label has at most {_DNS_LABEL_LENGTH}"
        )


def storage_uri(model: Mapping[str, Any]) -> str:
    """Return what KServe's storage container fetches: the pinned model, and the digest it has to have."""
    return f"mlflow://{model['uri']}?digest={model['digest']}"


def build_inference_service(
    options: ServiceOptions, model: Mapping[str, Any], contract: Mapping[str, str]
) -> dict[str, Any]:
    """Return the InferenceService that serves *model*, not yet sealed.

    :param model: a ``ResolvedModel`` as a dictionary.
    :param contract: variables of :func:`~airflow_mlops_provider.manifests.contract.build_contract`.
    :raises ValueError: an argument cannot be right, or an override is refused.
    """
    check_options(options)
    fixed = options.max_replicas in (None, options.min_replicas)
    annotations = {
        # Without it KServe makes an autoscaler that needs a metrics server and may change the number of pods.
        **({AUTOSCALER_ANNOTATION: "none"} if fixed and options.min_replicas else {}),
        **(options.annotations or {}),
    }
    predictor = {
        "minReplicas": options.min_replicas,
        "maxReplicas": options.max_replicas or max(options.min_replicas, 1),
        "scaleMetric": options.scale_metric,
        "scaleTarget": options.scale_target,
        "logger": dict(options.logger) if options.logger else None,
        "serviceAccountName": options.service_account_name,
        "nodeSelector": dict(options.node_selector or {}),
        "tolerations": [dict(item) for item in options.tolerations or ()],
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets or ()],
        "model": _asked_for(_model_container(options, model, contract)),
    }
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": _asked_for(
            {
                "name": options.name,
                "namespace": options.namespace,
                "labels": dict(options.labels),
                "annotations": annotations,
            }
        ),
        "spec": {"predictor": _asked_for(predictor)},
    }
    merge_overrides(manifest["spec"], options.overrides or {})  # type: ignore[arg-type]
    return manifest


def _model_container(options: ServiceOptions, model: Mapping[str, Any], contract: Mapping[str, str]) -> dict[str, Any]:
    own = [{"name": name, "value": value} for name, value in (options.env_vars or {}).items()]
    told = {name: contract[name] for name in _ONLINE_CONTRACT if contract.get(name)}
    resources = options.resources or {}
    return {
        "modelFormat": {"name": "mlflow"},
        "runtime": options.runtime,
        "protocolVersion": options.protocol,
        "storageUri": storage_uri(model) if options.storage == "initializer" else options.storage,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "resources": build_resources(resources.get("cpu"), resources.get("memory"), int(resources.get("gpu") or 0)),
        "env": [*own, *build_env_vars(told)],
    }


def merge_overrides(spec: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Merge a fragment of an InferenceService's ``spec`` into *spec*, in place.

    Mappings are merged, everything else is set. A value that an argument of the operator has set already is not
    replaced: two places that say different things about one field are a mistake.

    :raises ValueError: names the field.
    """
    for part in overrides:
        if part not in _SPEC_PARTS:
            raise ValueError(f"overrides.{part}: no part of an InferenceService's spec; use {', '.join(_SPEC_PARTS)}")
    predictor = overrides.get("predictor") or {}
    if "canaryTrafficPercent" in predictor:
        raise ValueError(
            "overrides.predictor.canaryTrafficPercent: KServe ignores it in Standard mode without a word; "
            "use KServeCanaryOperator"
        )
    _merge(spec, overrides, "overrides")


def _merge(into: dict[str, Any], fragment: Mapping[str, Any], path: str) -> None:
    for name, value in fragment.items():
        here, present = f"{path}.{name}", into.get(name)
        if isinstance(present, dict) and isinstance(value, Mapping):
            _merge(present, value, here)
        elif name in into and present != value:
            raise ValueError(f"{here}: is set by an argument of the operator already; remove one of the two")
        else:
            into[name] = copy.deepcopy(value)


def adopt_manifest(
    manifest: Mapping[str, Any], *, name: str, namespace: str, labels: Mapping[str, str], model: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a whole manifest that somebody wrote, named, labelled and told its model; not yet sealed.

    :param manifest: an InferenceService or LLMInferenceService. Where it names no model source, it gets the pinned one.
    :raises ValueError: it is of another kind, or speaks of another object.
    """
    kind = manifest.get("kind")
    if kind not in PLURALS or not str(manifest.get("apiVersion", "")).startswith("serving.kserve.io/"):
        raise ValueError(f"manifest: {manifest.get('apiVersion')} {kind} is none of {', '.join(PLURALS)}")
    if not isinstance(manifest.get("spec"), Mapping):
        raise ValueError("manifest: it has no spec")
    check_service_name(name, namespace)
    metadata = manifest.get("metadata") or {}
    for field_name, wanted in (("name", name), ("namespace", namespace)):
        if metadata.get(field_name, wanted) != wanted:
            raise ValueError(f"manifest.metadata.{field_name} is {metadata[field_name]!r}, the operator's {wanted!r}")
    if unknown := set(metadata) - {"name", "namespace", "labels", "annotations"}:
        raise ValueError(f"manifest.metadata.{sorted(unknown)[0]}: only labels and annotations can be set")
    adopted: dict[str, Any] = copy.deepcopy({key: manifest[key] for key in ("apiVersion", "kind", "spec")})
    adopted["metadata"] = {
        **{key: dict(metadata[key]) for key in ("labels", "annotations") if metadata.get(key)},
        "name": name,
        "namespace": namespace,
    }
    adopted["metadata"]["labels"] = {**adopted["metadata"].get("labels", {}), **labels}
    _name_source(adopted, model)
    return adopted


def _name_source(manifest: dict[str, Any], model: Mapping[str, Any]) -> None:
    if manifest["kind"] == LLM_KIND:
        manifest["spec"].setdefault("model", {}).setdefault("uri", storage_uri(model))
        return
    container = (manifest["spec"].get("predictor") or {}).get("model")
    if isinstance(container, dict) and not {"storageUri", "storage"} & set(container):
        container["storageUri"] = storage_uri(model)


def _asked_for(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [], {})}
