"""A batch pod as plain dictionaries: the hardened frame, and how a resolved model gets into it.

Decides what a pod that applies a model may do (nothing that the ``restricted`` Pod Security Standard forbids) and
where the contract's variables go. Pure, no I/O, no Kubernetes client: every function takes and returns JSON types.
Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (v1.34).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_mlops_provider.manifests.contract import CREDENTIAL_NAMES
from airflow_mlops_provider.manifests.naming import MODEL_ANNOTATION, MODEL_URI_ANNOTATION

#: Where a container leaves its result. The kubelet reads the file when the container ends
#: (``terminationMessagePath``), so a result needs no sidecar, no exec, and outlives the container.
RESULT_PATH: Final = "/airflow/xcom/return.json"
#: The kubelet cuts longer messages off: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
RESULT_MAX_BYTES: Final = 4096
#: ``KubernetesPodOperator.BASE_CONTAINER_NAME``: the container that has the model.
BASE_CONTAINER: Final = "base"
#: Runs the Kubernetes provider's sidecar, whose stock image names no user.
SIDECAR_USER: Final = 65532
#: The one writable place of a hardened pod.
TMP_VOLUME: Final = "tmp"
TMP_PATH: Final = "/tmp"  # noqa: S108 - a volume of the pod's own


def hardened_pod_security_context() -> dict[str, Any]:
    """Return the pod's security context; the image has to name a numeric non-root user."""
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def hardened_container_security_context(user: int | None = None) -> dict[str, Any]:
    """Return the container's security context: no privileges, nothing writable but mounted volumes.

    :param user: numeric user, for an image that would run as root otherwise.
    """
    return {
        **({"runAsUser": user} if user is not None else {}),
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def build_env_vars(variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return container variables whose values arrive as they are: ``$(NAME)`` in a value is not expanded.

    Expansion rule: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return [{"name": name, "value": value.replace("$(", "$$(")} for name, value in variables.items()]


def build_credential_env_vars(secret: str, keys: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return MLflow's credential variables as references into the Secret *secret*.

    :param keys: variable → key in the Secret, ``{"MLFLOW_TRACKING_TOKEN": "token"}``; without it every credential
        variable is looked up under its own name, and those that the Secret lacks stay unset.
    """
    optional = keys is None
    names = keys or {name: name for name in CREDENTIAL_NAMES}
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": optional}}}
        for name, key in names.items()
    ]


def build_model_annotations(model: Mapping[str, Any]) -> dict[str, str]:
    """Return what the pod says of the model it runs."""
    return {
        MODEL_URI_ANNOTATION: model["uri"],
        MODEL_ANNOTATION: json.dumps(dict(model), ensure_ascii=False, sort_keys=True, separators=(",", ":")),
    }


def build_resources(cpu: str | None, memory: str | None, gpu: int = 0) -> dict[str, Any]:
    """Return requests equal to limits, so that a scoring pod is never evicted for what it declared (QoS Guaranteed).

    :param cpu: Kubernetes quantity, ``"2"`` or ``"500m"``.
    :param memory: Kubernetes quantity, ``"4Gi"``.
    :param gpu: whole devices, ``nvidia.com/gpu``.
    """
    amounts: dict[str, str] = {}
    if cpu:
        amounts["cpu"] = cpu
    if memory:
        amounts["memory"] = memory
    if gpu:
        amounts["nvidia.com/gpu"] = str(gpu)
    return {"requests": dict(amounts), "limits": dict(amounts)} if amounts else {}


def build_pod_manifest(
    arguments: Mapping[str, Any],
    *,
    contract: Mapping[str, str],
    annotations: Mapping[str, str],
    volumes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the pod that the batch operator asks for, apart from what Airflow adds: a suffix to its name, labels of
    the task instance.

    :param arguments: of the operator, as JSON types; what is not asked for is absent.
    :param contract: variables of :func:`~airflow_mlops_provider.manifests.contract.build_contract`.
    :param annotations: those that the operator adds when it runs.
    :param volumes: ``{"claim": "shared-data", "mount_path": "/data", "read_only": True}``.
    """
    template = arguments.get("pod_template_dict", {}).get("spec", {})
    mounts = _mounts(template, volumes)
    spec = {
        **template,
        "containers": [_build_container(arguments, contract, mounts)],
        "initContainers": [
            {**item, "securityContext": hardened_container_security_context()}
            for item in template.get("initContainers", ())
        ],
        "restartPolicy": "Never",
        "hostNetwork": False,
        "securityContext": hardened_pod_security_context(),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": arguments.get("service_account_name"),
        "nodeSelector": arguments.get("node_selector"),
        "tolerations": arguments.get("tolerations"),
        "imagePullSecrets": [{"name": name} for name in arguments.get("image_pull_secrets", "").split(",") if name],
        "volumes": [
            *template.get("volumes", ()),
            *({"name": item["claim"], "persistentVolumeClaim": _claim(item)} for item in volumes),
            *([] if _mounts_tmp(mounts) else [{"name": TMP_VOLUME, "emptyDir": {}}]),
        ],
    }
    metadata = {
        "name": arguments["name"],
        "namespace": arguments.get("namespace"),
        "labels": arguments.get("labels"),
        "annotations": {**arguments.get("annotations", {}), **annotations},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _asked_for(metadata), "spec": _asked_for(spec)}


def _mounts(template: Mapping[str, Any], volumes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what the model's container mounts: the template's, then the environment's."""
    base: Mapping[str, Any] = next(iter(template.get("containers", ())), {})
    claims = (
        {"name": item["claim"], "mountPath": item["mount_path"], "readOnly": item["read_only"]} for item in volumes
    )
    return [*base.get("volumeMounts", ()), *claims]


def _build_container(
    arguments: Mapping[str, Any], contract: Mapping[str, str], mounts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    own = arguments.get("env_vars", {})
    credentials = arguments.get("mlflow_credentials")
    env = [
        *({"name": name, "value": value} for name, value in own.items()),
        *build_env_vars(contract),
        *(build_credential_env_vars(credentials["secret"], credentials.get("keys")) if credentials else []),
        *([] if "HOME" in own else [{"name": "HOME", "value": TMP_PATH}]),
    ]
    tmp = [] if _mounts_tmp(mounts) else [{"name": TMP_VOLUME, "mountPath": TMP_PATH}]
    container = {
        "name": BASE_CONTAINER,
        "image": arguments.get("image"),
        "imagePullPolicy": arguments.get("image_pull_policy"),
        "command": arguments.get("cmds"),
        "args": arguments.get("arguments"),
        "env": env,
        "resources": arguments.get("container_resources"),
        "securityContext": hardened_container_security_context(),
        "terminationMessagePath": RESULT_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": [*mounts, *tmp],
    }
    return _asked_for(container)


def _claim(volume: Mapping[str, Any]) -> dict[str, Any]:
    return {"claimName": volume["claim"], "readOnly": volume["read_only"]}


def _mounts_tmp(mounts: Sequence[Mapping[str, Any]]) -> bool:
    return any(item["mountPath"] == TMP_PATH for item in mounts)


def _asked_for(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def parse_result(message: str | None) -> tuple[Any, str | None]:
    """Return the container's result and what is wrong with it.

    :param message: the container's termination message; None or blank where it wrote none.
    :return: ``(value, None)``, or ``(None, problem)``.
    """
    if not message or not message.strip():
        return None, None
    try:
        return json.loads(message), None
    except ValueError as error:
        if len(message.encode()) >= RESULT_MAX_BYTES:
            return None, (
                f"the result in {RESULT_PATH} is longer than {RESULT_MAX_BYTES} bytes and was cut off by the kubelet; "
                "write less (a URI instead of data), or set xcom_sidecar=True"
            )
        return None, f"the result in {RESULT_PATH} is not JSON ({error}); write one JSON document"


def read_model_annotation(annotations: Mapping[str, str] | None) -> dict[str, Any] | None:
    """Return the resolved model that :func:`build_model_annotations` wrote, or None where there is none."""
    text = (annotations or {}).get(MODEL_ANNOTATION)
    if text is None:
        return None
    model: dict[str, Any] = json.loads(text)
    return model
