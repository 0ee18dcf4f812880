"""Hand a result to Airflow: one JSON file where the kubelet, a sidecar, or the local runner looks for it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlops_runtime.errors import OutputError

_SIDECAR_DIRECTORY = Path("/airflow/xcom")  # fixed by the Kubernetes provider of Airflow


def write_xcom(result: Mapping[str, object], path: str = "") -> None:
    """Write the result to ``path``, or to Airflow's directory if there is one, or nowhere.

    A file that is there already is filled in place: it is the container's termination message, mounted by the kubelet,
    which reads it when the container has ended. Otherwise somebody may be waiting for the file, so it appears whole.

    :raises OutputError: the place cannot be written.
    """
    target = Path(path).absolute() if path else _SIDECAR_DIRECTORY / "return.json"
    if not path and not _SIDECAR_DIRECTORY.is_dir():
        return
    temporary = ""
    try:
        if target.exists():
            target.write_text(json.dumps(result), encoding="utf-8")
            return
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(result, file)
        os.chmod(temporary, 0o644)  # the sidecar may run as another user
        os.replace(temporary, target)
    except OSError as problem:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise OutputError(
            f"{target}: the result cannot be written ({problem.strerror}); is the directory mounted and writable?"
        ) from problem
