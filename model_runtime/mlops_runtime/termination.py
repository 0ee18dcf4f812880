"""Leave the last word where Kubernetes looks for it: the container's termination message.

The kubelet mounts a file there that is shown in the pod's status, and KServe copies it into the InferenceService's; on
a laptop there is none, and nothing is written. Does I/O.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_DEFAULT_PATH = "/dev/termination-log"
_MOST_BYTES = 4096  # the kubelet cuts there


def write_termination_message(text: str) -> None:
    """Write ``text`` into the termination message, if there is one. Never raises: the log has the text as well."""
    path = Path(os.environ.get("MLOPS_TERMINATION_LOG") or _DEFAULT_PATH)
    with contextlib.suppress(OSError):
        if path.exists():
            path.write_bytes(text.encode()[:_MOST_BYTES])
