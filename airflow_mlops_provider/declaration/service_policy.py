"""What an environment allows an online service to ask for: the manifest as it goes to the API server.

Decides by the same rules as :mod:`.pod_policy`, applied to the pod that the manifest describes. The image and the
security context that a serving runtime brings are the platform's own and are not in the manifest; the admission policy
judges the pods themselves. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops_provider.declaration.environment import Environment
from airflow_mlops_provider.declaration.online_policy import check_logger_url
from airflow_mlops_provider.declaration.pod_policy import check_pod
from airflow_mlops_provider.declaration.rules import Violation, check_listed
from airflow_mlops_provider.declaration.standard_runtime import STANDARD_SERVING_RUNTIME

_CONTAINER_FIELDS = (
    "model",
    "sklearn",
    "xgboost",
    "lightgbm",
    "pytorch",
    "tensorflow",
    "onnx",
    "triton",
    "huggingface",
)
_SCHEDULING_FIELDS = ("minReplicas", "maxReplicas")


def check_service(manifest: Mapping[str, Any], environment: Environment) -> list[Violation]:
    """Return the rules that an InferenceService or LLMInferenceService breaks.

    :param manifest: ``{"kind": …, "metadata": {…}, "spec": {…}}``.
    """
    metadata = {"namespace": manifest["metadata"].get("namespace")}
    found: list[Violation] = []
    for path, part in _parts(manifest):
        pod = {"metadata": metadata, "spec": _pod_spec(part)}
        found += [
            Violation((*path, *item.path), item.message, item.rule)
            for item in check_pod(pod, environment)
            if not _is_of_the_runtime(item, pod["spec"])
        ]
        found += _check_replicas(part, environment, path)
        found += _check_reach(part, environment, path)
    return found


def _parts(manifest: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """Yield everything in a manifest that becomes pods."""
    spec = manifest["spec"]
    if manifest["kind"] == "LLMInferenceService":
        for name in ("template", "worker", "prefill"):
            part = spec.get(name)
            if part:
                yield ("spec", name), {**(part.get("template") or part), "maxReplicas": spec.get("replicas")}
        return
    for name in ("predictor", "transformer", "explainer"):
        if spec.get(name):
            yield ("spec", name), spec[name]
    for index, canary in enumerate(spec.get("canary") or ()):
        yield ("spec", "canary", index, "predictor"), canary["predictor"]


def _pod_spec(part: Mapping[str, Any]) -> dict[str, Any]:
    own = [dict(part[name]) for name in _CONTAINER_FIELDS if part.get(name)]
    return {**part, "containers": [*own, *(part.get("containers") or ())]}


def _is_of_the_runtime(item: Violation, spec: Mapping[str, Any]) -> bool:
    """Whether a rule is only broken because the manifest leaves the field to the serving runtime."""
    if len(item.path) < 4 or item.path[1] != "containers" or not isinstance(item.path[2], int):
        return False
    container = spec["containers"][item.path[2]]
    if item.path[3] == "image":
        return "image" not in container
    return item.path[3] == "securityContext" and "securityContext" not in container


def _check_replicas(
    part: Mapping[str, Any], environment: Environment, path: tuple[str | int, ...]
) -> Iterator[Violation]:
    most = environment.allow.max_replicas
    if most is None:
        return
    for field in _SCHEDULING_FIELDS:
        if (part.get(field) or 0) > most:
            yield Violation((*path, field), f"{part[field]} are too many; at most {most}", "max_replicas")


def _check_reach(part: Mapping[str, Any], environment: Environment, path: tuple[str | int, ...]) -> Iterator[Violation]:
    """Yield what reaches beyond the service itself: runtimes of the cluster, addresses that requests are copied to."""
    for field in _CONTAINER_FIELDS:
        runtime = (part.get(field) or {}).get("runtime")
        if runtime not in (None, STANDARD_SERVING_RUNTIME):
            yield from check_listed(runtime, environment.allow.runtimes, (*path, field, "runtime"), "runtimes")
    logger = part.get("logger")
    if logger is not None:
        yield from check_logger_url(logger.get("url") or "", environment, (*path, "logger", "url"))
