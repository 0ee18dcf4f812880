"""What this image holds, for whoever decides whether a model fits into it before it is deployed.

Reads the metadata of installed distributions only.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from pathlib import Path

from mlops_runtime.errors import UsageError


def list_packages() -> dict[str, object]:
    """Return ``{"python": "3.11.2", "packages": {"pandas": "3.1.1", …}}``; names are normalised (PEP 503)."""
    found = {
        re.sub(r"[-_.]+", "-", distribution.name).lower(): distribution.version
        for distribution in reversed(list(importlib.metadata.distributions()))  # what comes first on the path wins
        if distribution.name
    }
    return {"python": platform.python_version(), "packages": dict(sorted(found.items()))}


def read_packages(path: str) -> dict[str, object]:
    """Read what ``mlops-runtime packages`` printed elsewhere. :raises UsageError: the file holds something else."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path}: cannot be read ({problem}); write it with `mlops-runtime packages`") from problem
    if not isinstance(found, dict) or not isinstance(found.get("packages"), dict) or not found.get("python"):
        raise UsageError(f"{path}: holds no python and packages; write it with `mlops-runtime packages`")
    return found
