"""dag-factory and blueprint, in an environment of their own with the same Airflow as this one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PEERS = ("dag-factory==1.1.0", "airflow-blueprint==0.5.0")
_SAME = ("apache-airflow", "apache-airflow-providers-cncf-kubernetes")


def install_peers() -> tuple[str | None, str | None]:
    """Return the peers' interpreter, or why there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "airflow-mlops-provider" / "benchmark-peers"
    python = folder / "bin" / "python"
    pins = [f"{name}=={version(name)}" for name in _SAME]
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    for command in (
        ["uv", "venv", "--quiet", "--allow-existing", "--python", this, str(folder)],
        ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *PEERS, *pins],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return None, str(error)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return str(python), None
