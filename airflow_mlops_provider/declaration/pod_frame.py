"""The frame that every pod of an environment keeps: no way out of the container, whatever the environment allows.

Decides what the ``restricted`` Pod Security Standard asks of a Pod in JSON types.
https://kubernetes.io/docs/concepts/security/pod-security-standards/ (v1.34). No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.rules import Violation

_KINDS = ("containers", "initContainers", "ephemeralContainers")
_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC")
_SECCOMP = ("RuntimeDefault", "Localhost")


def containers_of(spec: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every container of a pod with its path."""
    for kind in _KINDS:
        for index, container in enumerate(spec.get(kind) or ()):
            yield ("spec", kind, index), container


def check_frame(spec: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield what leaves the frame."""
    for field in _HOST_FIELDS:
        if spec.get(field):
            yield Violation(("spec", field), "is not allowed; remove it", "host_namespaces")
    pod = spec.get("securityContext") or {}
    if pod.get("sysctls"):
        yield Violation(("spec", "securityContext", "sysctls"), "is not allowed; remove it", "restricted")
    for path, container in containers_of(spec):
        if any(port.get("hostPort") for port in container.get("ports") or ()):
            yield Violation((*path, "ports"), "binds a port of the node; remove hostPort", "host_namespaces")
        missing = list(_missing(container.get("securityContext") or {}, pod))
        if missing:
            message = f"must have {', '.join(missing)}; keep hardened=True"
            yield Violation((*path, "securityContext"), message, "restricted")


def _missing(own: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    both = {**pod, **own}
    capabilities = own.get("capabilities") or {}
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "allowPrivilegeEscalation: false"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "runAsNonRoot: true"
    if "ALL" not in (capabilities.get("drop") or ()) or set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield "capabilities.drop: [ALL]"
    if (both.get("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield "seccompProfile.type: RuntimeDefault"
    if own.get("procMount") not in (None, "Default"):
        yield "procMount: Default"
