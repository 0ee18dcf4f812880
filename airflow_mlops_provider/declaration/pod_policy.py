"""What an environment allows a running task to create: the pod or process as it really is, after rendering.

Decides, for a finished Pod (JSON types, as it goes to the API server) or a process, which of the platform's rules it
breaks. It believes nothing that was checked before: ``policy`` judges what people wrote, this what comes of it. Default
deny: what ``environments.yaml`` does not name is refused. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_mlops_provider.declaration.environment import Environment, VolumeClaim
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.pod_frame import check_frame, containers_of
from airflow_mlops_provider.declaration.policy import check_names
from airflow_mlops_provider.declaration.quantity import cpu_millicores, memory_bytes
from airflow_mlops_provider.declaration.rules import (
    Violation,
    check_image,
    check_uri,
    commands_allowed,
    steers_a_process,
)
from airflow_mlops_provider.declaration.standard_runtime import STANDARD_COMMAND
from airflow_mlops_provider.declaration.template_wall import (
    is_affinity_of_a_template,
    is_from_a_template,
    named_by_templates,
)
from airflow_mlops_provider.declaration.wording import quoted

#: Everything else that a container may ask for is a device, except storage and huge pages:
#: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
_READERS = {"cpu": cpu_millicores, "memory": memory_bytes}
#: What a pod may name of the cluster's own, and the rule that says so.
_CLASSES = {"priorityClassName": "priority_class", "runtimeClassName": "runtime_class"}
_AMOUNTS = (*_READERS, "gpu")
_TOO_MANY = 1_000_000


def check_task(
    environment: Environment,
    *,
    runner: str,
    connections: Mapping[str, str | None],
    uris: Mapping[str, str | None],
    model: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    partitions: int = 1,
) -> list[Violation]:
    """Return the rules that a task breaks before anything is built for it.

    :param runner: ``kubernetes`` or ``local``: what kind of operator asks.
    :param connections: ``{"mlflow": …}``, and ``kubernetes`` for a pod; None where another way in was chosen.
    :param uris: ``{"input_uri": …, "output_uri": …}``, rendered.
    :param model: the fields of the selector.
    """
    found: list[Violation] = []
    if runner != environment.runner:
        message = f"{runner} is not the runner of this environment; use {environment.runner}"
        found.append(Violation(("runner",), message, "runner"))
    for kind, name in connections.items():
        wanted = getattr(environment.connections, kind)
        if name != wanted:
            message = f"{quoted(name)} is not allowed; use {quoted(wanted)}"
            found.append(Violation(("connections", kind), message, "connections"))
    for field, uri in uris.items():
        found += check_uri(uri, environment, (field,))
    if tracking_uri != environment.mlflow_tracking_uri and tracking_uri is not None:
        message = f"{quoted(tracking_uri)} is not this environment's MLflow; remove it"
        found.append(Violation(("tracking_uri",), message, "mlflow_tracking_uri"))
    most = environment.allow.max_partitions
    if partitions > most:
        message = f"{partitions} are too many; at most {most}"
        found.append(Violation(("partitions",), message, "max_partitions"))
    return [*found, *check_names(model or {}, environment)]


def check_process(command: Sequence[str], variables: Mapping[str, str], environment: Environment) -> list[Violation]:
    """Return the rules that a local process breaks."""
    if commands_allowed(environment):
        return []
    found = [] if tuple(command) == STANDARD_COMMAND else [_no_command(("command",))]
    return [*found, *_check_variable_names(variables, environment, ("env_vars",))]


def check_pod(pod: Mapping[str, Any], environment: Environment) -> list[Violation]:
    """Return the rules that a pod breaks.

    :param pod: a Pod as the API server gets it, ``{"metadata": {…}, "spec": {"containers": […], …}}``.
    """
    spec = pod["spec"]
    return [
        *_check_place(pod.get("metadata") or {}, spec, environment),
        *_check_programs(spec, environment),
        *_check_resources(spec, environment),
        *_check_secrets(spec, environment),
        *_check_volumes(spec, environment),
        *check_frame(spec),
    ]


def _check_place(metadata: Mapping[str, Any], spec: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    namespace = metadata.get("namespace")
    if namespace != environment.namespace:
        message = f"{quoted(namespace)} is not allowed; use {quoted(environment.namespace)}"
        yield Violation(("metadata", "namespace"), message, "namespace")
    wanted = environment.service_account or "default"
    # Without a name the API server takes «default».
    for field in ("serviceAccountName", "serviceAccount"):
        name = spec.get(field) or ("default" if field == "serviceAccountName" else wanted)
        if name != wanted:
            message = f"{quoted(name)} is not allowed; use {quoted(wanted)}"
            yield Violation(("spec", field), message, "service_account")
    yield from _check_nodes(spec, environment)
    for field, rule in _CLASSES.items():
        if spec.get(field) and spec[field] not in named_by_templates(field, environment):
            message = f"{quoted(spec[field])} is not allowed; remove it, or let a template of the platform name it"
            yield Violation(("spec", field), message, rule)


def _check_nodes(spec: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    if dict(spec.get("nodeSelector") or {}) != dict(environment.node_selector):
        message = f"must be {dict(environment.node_selector)}, the environment's node group"
        yield Violation(("spec", "nodeSelector"), message, "node_selector")
    if spec.get("nodeName"):
        yield Violation(("spec", "nodeName"), "names a node past the scheduler; remove it", "node_selector")
    affinity = (spec.get("affinity") or {}).get("nodeAffinity")
    if affinity and not is_affinity_of_a_template(affinity, environment):
        yield Violation(("spec", "affinity", "nodeAffinity"), "chooses nodes; remove it", "node_selector")
    allowed = [item.model_dump(by_alias=True, exclude_none=True) for item in environment.tolerations]
    for index, item in enumerate(spec.get("tolerations") or ()):
        if {"operator": "Equal", **item} not in allowed:
            yield Violation(("spec", "tolerations", index), "is not the environment's; remove it", "tolerations")


def _check_programs(spec: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    for path, container in containers_of(spec):
        if path[1] == "initContainers" and is_from_a_template(container, "initContainers", environment):
            continue
        image = container.get("image")
        if not image:
            yield Violation((*path, "image"), "is missing; name one", "images")
        else:
            yield from check_image(image, environment, (*path, "image"))
        if commands_allowed(environment):
            continue
        if tuple(container.get("command") or STANDARD_COMMAND) != STANDARD_COMMAND or container.get("args"):
            yield _no_command((*path, "command"))
        variables = {item["name"]: item.get("value") for item in container.get("env") or ()}
        yield from _check_variable_names(variables, environment, (*path, "env"))


def _no_command(path: Path) -> Violation:
    return Violation(path, "is not allowed; remove it and use input and output", "commands")


def _check_variable_names(variables: Mapping[str, Any], environment: Environment, path: Path) -> Iterator[Violation]:
    for name, value in variables.items():
        if steers_a_process(name) and environment.env.get(name) != value:
            yield Violation((*path, name), "may not be set here; remove it", "commands")


def _check_resources(spec: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    """Judge the limits: of all containers together, and of each that runs before them."""
    together = dict.fromkeys(_AMOUNTS, 0)
    for path, container in containers_of(spec):
        here = (*path, "resources", "limits")
        yield from _check_limits(container, environment, here)
        amounts = _amounts(container)
        if path[1] == "initContainers" and container.get("restartPolicy") != "Always":
            yield from _check_amounts(amounts, environment, here)
        else:
            together = {name: together[name] + amounts[name] for name in _AMOUNTS}
    yield from _check_amounts(together, environment, ("spec", "containers", "resources", "limits"))
    if spec.get("resources"):
        yield Violation(("spec", "resources"), "set limits on the containers instead", "max_cpu")
    if spec.get("resourceClaims"):
        yield Violation(("spec", "resourceClaims"), "claims devices; use resources.gpu", "max_gpu")


def _check_limits(container: Mapping[str, Any], environment: Environment, path: Path) -> Iterator[Violation]:
    """Yield the limits that are missing or cannot be read: what cannot be judged is refused."""
    limits = (container.get("resources") or {}).get("limits") or {}
    for name, read in _READERS.items():
        most = getattr(environment.allow, f"max_{name}")
        if most is None:
            continue
        if limits.get(name) is None:
            yield Violation((*path, name), f"is missing; set one, at most {most}", f"max_{name}")
            continue
        try:
            read(str(limits[name]))
        except ValueError as error:
            yield Violation((*path, name), str(error), f"max_{name}")


def _amounts(container: Mapping[str, Any]) -> dict[str, int]:
    """Return thousandths of a CPU, bytes and devices; what cannot be read is reported elsewhere."""
    resources = container.get("resources") or {}
    found = dict.fromkeys(_AMOUNTS, 0)
    for name, amount in {**(resources.get("requests") or {}), **(resources.get("limits") or {})}.items():
        if name in _READERS:
            with suppress(ValueError):
                found[name] = _READERS[name](str(amount))
        elif name != "ephemeral-storage" and not name.startswith("hugepages-"):
            found["gpu"] += int(str(amount)) if str(amount).isdigit() else _TOO_MANY
    return found


def _check_amounts(amounts: Mapping[str, int], environment: Environment, path: Path) -> Iterator[Violation]:
    allow = environment.allow
    most = {
        "cpu": cpu_millicores(allow.max_cpu) if allow.max_cpu else None,
        "memory": memory_bytes(allow.max_memory) if allow.max_memory else None,
        "gpu": allow.max_gpu,
    }
    for name, limit in most.items():
        if limit is not None and amounts[name] > limit:
            message = f"the pod asks for too much; at most {getattr(allow, f'max_{name}')}"
            yield Violation((*path, name), message, f"max_{name}")


def _check_secrets(spec: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    for path, container in containers_of(spec):
        for index, source in enumerate(container.get("envFrom") or ()):
            rule = "secrets" if source.get("secretRef") else "config_maps"
            yield Violation((*path, "envFrom", index), "is not allowed; name single variables", rule)
        for item in container.get("env") or ():
            yield from _check_source(item.get("valueFrom") or {}, environment, (*path, "env", item["name"]))
    for index, item in enumerate(spec.get("imagePullSecrets") or ()):
        if item.get("name") not in environment.image_pull_secrets:
            message = f"secret {quoted(item.get('name'))} is not allowed; remove it"
            yield Violation(("spec", "imagePullSecrets", index), message, "secrets")


def _check_source(source: Mapping[str, Any], environment: Environment, path: Path) -> Iterator[Violation]:
    secret, credentials = source.get("secretKeyRef"), environment.mlflow_credentials
    if source.get("configMapKeyRef"):
        yield Violation(path, "reads a ConfigMap; remove it", "config_maps")
    if not secret:
        return
    keys = credentials.keys.values() if credentials and credentials.keys else (secret.get("key"),)
    if credentials is None or secret.get("name") != credentials.secret or secret.get("key") not in keys:
        yield Violation(path, f"secret {quoted(secret.get('name'))} is not allowed; remove it", "secrets")


def _check_volumes(spec: Mapping[str, Any], environment: Environment) -> Iterator[Violation]:
    """Allow scratch space, the environment's claims, and what the API server itself projects; nothing else."""
    claims = {item.claim: item for item in environment.volumes}
    for index, volume in enumerate(spec.get("volumes") or ()):
        path, kinds = ("spec", "volumes", index), {key for key, value in volume.items() if value is not None} - {"name"}
        sources = (volume.get("projected") or {}).get("sources") or ()
        if is_from_a_template(volume, "volumes", environment):
            continue
        if "secret" in kinds or any(source.get("secret") for source in sources):
            yield Violation(path, "mounts a secret; remove it", "secrets")
        elif "persistentVolumeClaim" in kinds:
            yield from _check_claim(volume["persistentVolumeClaim"], claims, path)
        elif not kinds <= {"emptyDir", "downwardAPI", "projected"} or any(
            source.get("configMap") for source in sources
        ):
            message = f"{quoted(', '.join(sorted(kinds)))} is not allowed; use the environment's claims"
            yield Violation(path, message, "volumes")


def _check_claim(source: Mapping[str, Any], claims: Mapping[str, VolumeClaim], path: Path) -> Iterator[Violation]:
    claim = claims.get(source.get("claimName", ""))
    if claim is None:
        message = f"claim {quoted(source.get('claimName'))} is not the environment's; remove it"
        yield Violation(path, message, "volumes")
    elif claim.read_only and not source.get("readOnly"):
        yield Violation(path, f"claim {quoted(claim.claim)} must be mounted read-only", "volumes")
