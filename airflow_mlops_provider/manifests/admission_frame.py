"""The frame that every pod keeps, in CEL: what ``declaration.pod_frame`` says in Python.

Decides how the ``restricted`` Pod Security Standard reads as admission rules.
https://kubernetes.io/docs/concepts/security/pod-security-standards/ (v1.34). Pure, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

_POD = "object.spec.?securityContext"
_OWN = "c.?securityContext"
_RESTRICTED = (
    f"{_OWN}.?allowPrivilegeEscalation.orValue(true) == false",
    f"{_OWN}.?privileged.orValue(false) == false",
    f"{_OWN}.?runAsNonRoot.orValue({_POD}.?runAsNonRoot.orValue(false))",
    f"{_OWN}.?runAsUser.orValue({_POD}.?runAsUser.orValue(1)) != 0",
    f"'ALL' in {_OWN}.?capabilities.?drop.orValue([])",
    f"{_OWN}.?capabilities.?add.orValue([]).all(a, a == 'NET_BIND_SERVICE')",
    f"{_OWN}.?seccompProfile.?type.orValue({_POD}.?seccompProfile.?type.orValue(''))"
    " in ['RuntimeDefault', 'Localhost']",
    f"{_OWN}.?procMount.orValue('Default') == 'Default'",
)


def frame_rules() -> Iterator[tuple[str, str]]:
    """Yield rule and CEL expression."""
    hosts = " && ".join(f"!object.spec.?{field}.orValue(false)" for field in ("hostNetwork", "hostPID", "hostIPC"))
    yield "host_namespaces", hosts
    ports = "c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0)"
    yield "host_namespaces", f"variables.containers.all(c, {ports})"
    yield "restricted", f"size({_POD}.?sysctls.orValue([])) == 0"
    yield "restricted", f"variables.containers.all(c, {' && '.join(_RESTRICTED)})"
