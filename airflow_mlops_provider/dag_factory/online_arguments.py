"""What a merged declaration asks of an online service, as arguments of the operators that deploy it.

Decides the service's name and how the words of a declaration map to those of the operators. Pure: no Airflow, no
Kubernetes client, so that the command line can explain a service without either.
"""

from __future__ import annotations

import hashlib
from typing import Any

from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.online_spec import OnlineSpec, RequestTest
from airflow_mlops_provider.exceptions import DeclarationError, Problem
from airflow_mlops_provider.manifests.batch_pod import hardened_container_security_context
from airflow_mlops_provider.manifests.naming import DECLARATION_ANNOTATION, ownership_labels

#: KServe's host name ``<name>-predictor-<namespace>`` is one DNS label; so is the candidate's of a canary.
_MAX_DNS_LABEL = 63
_AROUND_NAME = "-predictor-"
_CANDIDATE_SUFFIX = "-candidate"
_HASH_LENGTH = 8


def service_name(model: EnvironmentModel, online: OnlineSpec) -> str:
    """Return the InferenceService's name: the model's own, and with the environment's where many share a namespace.

    A copy of an ephemeral environment has no namespace of its own; its services are told apart by its key.

    :raises DeclarationError: the namespace's name leaves no room.
    """
    if not model.settings.ephemeral:
        return model.model  # the policy has checked its length
    whole = f"{model.model}-{model.environment}"
    around = f"{_AROUND_NAME}{model.settings.namespace}{_CANDIDATE_SUFFIX if online.canary else ''}"
    room = _MAX_DNS_LABEL - len(around)
    if len(whole) <= room:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH_LENGTH]
    short = whole[: max(room - _HASH_LENGTH - 1, 0)].strip("-")
    if not short:
        file, line = model.origin["model"]
        message = f"namespace '{model.settings.namespace}' leaves no room for the name of an online service"
        raise DeclarationError([Problem(file, line, 1, "model", f"{message}; the platform has to shorten it")])
    return f"{short}-{digest}"


def build_place(model: EnvironmentModel, online: OnlineSpec) -> dict[str, Any]:
    """Return where the service is: the arguments that every operator of an online service takes."""
    return {
        "name": service_name(model, online),
        "namespace": model.settings.namespace,
        "kubernetes_conn_id": model.settings.connections.kubernetes,
    }


def build_service_arguments(model: EnvironmentModel, online: OnlineSpec) -> dict[str, Any]:
    """Return keyword arguments of :class:`~airflow_mlops_provider.operators.kserve.KServeDeployOperator`.

    Values are JSON types; what is not asked for is left out. Which model, and how a canary proceeds, is not in here.
    """
    settings, scale = model.settings, online.scale
    arguments: dict[str, Any] = {
        **build_place(model, online),
        "environment": model.environment,
        "tracking_uri": settings.mlflow_tracking_uri,
        "min_replicas": online.min_replicas,
        "max_replicas": online.max_replicas,
        "resources": online.resources.model_dump(),
        "node_selector": dict(settings.node_selector),
        "tolerations": [item.model_dump(by_alias=True, exclude_none=True) for item in settings.tolerations],
        "service_account_name": settings.service_account,
        "image": online.image,
        "image_pull_policy": settings.image_pull_policy if online.image else None,
        "image_pull_secrets": list(settings.image_pull_secrets),
        "runtime": online.runtime,
        "protocol": online.protocol,
        "env_vars": {**settings.env, **online.env},
        "labels": ownership_labels(model.model, model.environment, component="online", ephemeral=settings.ephemeral),
        "annotations": {DECLARATION_ANNOTATION: model.file},
        "scale_metric": scale.metric if scale else None,
        "scale_target": scale.target if scale else None,
        "logger": online.logger.model_dump() if online.logger else None,
        "overrides": _template(model, online),
        "smoke_test": smoke_test(online),
        "on_failure": online.on_failure,
        "timeout_seconds": online.timeout.total_seconds(),
        "deferrable": settings.deferrable,
    }
    return {name: value for name, value in arguments.items() if value not in (None, "", [], {})}


def _template(model: EnvironmentModel, online: OnlineSpec) -> dict[str, Any] | None:
    """Return what the platform's template adds to the pods: KServe takes a pod's fields beside the model's."""
    if online.extends is None:
        return None
    template = model.settings.templates[online.extends]
    spec = dict(template.spec)
    if before := spec.get("initContainers"):  # batch pods are hardened when they are built, these are not
        spec["initContainers"] = [{**item, "securityContext": hardened_container_security_context()} for item in before]
    mounts = [dict(item) for item in template.mounts]
    return {"predictor": {**spec, **({"model": {"volumeMounts": mounts}} if mounts else {})}}


def smoke_test(online: OnlineSpec) -> dict[str, Any]:
    """Return the request that a new version must answer; without one, the model's input example is it."""
    test = online.smoke_test
    source = {"request": test.request} if isinstance(test, RequestTest) else {"from": "input_example"}
    more = {
        "max_latency_seconds": test.max_latency.total_seconds() if test and test.max_latency else None,
        "expect_shape": list(test.expect_shape) if test and test.expect_shape else None,
    }
    return {**source, **{name: value for name, value in more.items() if value is not None}}


def build_canary_arguments(online: OnlineSpec) -> dict[str, Any]:
    """Return what ``KServeCanaryOperator`` takes beside the arguments of a deployment."""
    canary, test = online.canary, online.smoke_test
    if canary is None:
        return {}
    latency = canary.max_latency or (test and test.max_latency)
    arguments = {
        "steps": list(canary.steps),
        "bake_seconds": canary.bake.total_seconds(),
        "max_error_rate": canary.max_error_rate,
        "min_agreement": canary.min_agreement,
        "max_latency_seconds": latency.total_seconds() if latency else None,
    }
    return {name: value for name, value in arguments.items() if value not in (None, [])}


def build_gitops_arguments(model: EnvironmentModel) -> dict[str, Any]:
    """Return where Argo CD reads: the arguments of every operator that commits."""
    argocd = model.settings.argocd
    if argocd is None:
        return {}
    arguments = {"git_conn_id": argocd.connection, "repository": argocd.repository, "branch": argocd.branch}
    return {name: value for name, value in arguments.items() if value is not None}


def gitops_directory(model: EnvironmentModel) -> str:
    """Return the directory of the environment in that repository."""
    argocd = model.settings.argocd
    return (argocd and argocd.path) or model.environment
