"""What the API server says when an account lacks a permission, and who can give it.

Decides whether a text is such a refusal. What the caller makes of it is left to the caller. Pure, no I/O.
https://kubernetes.io/docs/reference/access-authn-authz/authorization/ (v1.34)
"""

from __future__ import annotations

import re
from typing import Final

RBAC_FILE: Final = "deploy/kserve/rbac.yaml"
#: Quotation marks are escaped where the clients put the server's JSON into a message of their own.
_QUOTE: Final = r'\\*"'
_REFUSAL: Final = re.compile(
    rf"User {_QUOTE}(?P<user>[^\"\\]+){_QUOTE} cannot (?P<verb>\w+) resource {_QUOTE}(?P<resource>[^\"\\]+){_QUOTE}"
    rf" in API group {_QUOTE}(?P<group>[^\"\\]*){_QUOTE}"
    rf" (?:in the namespace {_QUOTE}(?P<namespace>[^\"\\]+){_QUOTE}|at the cluster scope)"
)


def missing_permission(text: str) -> str | None:
    """Return who lacks which permission where, and which file gives it; None where *text* is about something else.

    :param text: an answer of the API server, or an exception that quotes one.
    """
    found = _REFUSAL.search(text)
    if found is None:
        return None
    group = f" of API group {found['group']}" if found["group"] else ""
    where, what = "in the cluster", "its ClusterRole"
    if found["namespace"]:
        where, what = f"in namespace {found['namespace']!r}", "its Role there"
    return (
        f"the account {found['user']!r} may not {found['verb']} {found['resource']}{group} {where}; bind {what} to the "
        f"account: {RBAC_FILE}"
    )
