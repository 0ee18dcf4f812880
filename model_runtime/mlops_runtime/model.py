"""Get a model: download by MLflow URI, check its digest, load it. The only module that imports mlflow, and only when
called.

Where mlflow would retry for minutes or report usage home, the environment says no before it is imported; a value that
the user has set stays.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from mlops_runtime.errors import (
    ModelDigestError,
    ModelError,
    UnreachableError,
    UsageError,
    is_unreachable,
    one_line,
    redact,
)

_MLMODEL = "MLmodel"
#: mlflow-skinny stands in for mlflow; scikit-learn imports the others only where they happen to be installed.
_NOT_COMPARED = ("mlflow", "pytest", "rich")
_STAND_INS = {"xgboost": "xgboost-cpu"}
_REMOTE_SCHEMES = ("models:", "runs:", "mlflow-artifacts:")
_MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 7 by default, several minutes; Airflow retries the task anyway
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}


class Model(Protocol):
    """What score needs of a ``mlflow.pyfunc.PyFuncModel``."""

    def predict(self, data: Any) -> Any:
        """Return one prediction per row."""
        ...


def set_mlflow_defaults(tracking_uri: str) -> None:
    """Prepare the environment for mlflow; call before anything imports it."""
    for name, value in _MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    if tracking_uri:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri


def local_model_path(uri: str) -> Path | None:
    """Return the directory that a local path or ``file:`` URI names, ``None`` for every other URI."""
    from mlops_runtime.locations import parse_location

    if uri.startswith(_REMOTE_SCHEMES):
        return None
    location = parse_location(uri)
    return Path(location.path) if location.scheme == "file" else None


def digest_of(directory: Path) -> str:
    """Return ``sha256:<hex>`` of a model directory's ``MLmodel`` file, byte for byte.

    :raises ModelError: there is none.
    """
    try:
        return f"sha256:{hashlib.sha256((directory / _MLMODEL).read_bytes()).hexdigest()}"
    except OSError as problem:
        raise ModelError(
            f"{directory}: no readable {_MLMODEL} ({problem.strerror}); this is no MLflow model"
        ) from problem


def verify_digest(directory: Path, expected: str, uri: str) -> str:
    """Return the model's digest. :raises ModelDigestError: it is not the expected one (empty: anything goes)."""
    found = digest_of(directory)
    if expected and found != expected:
        raise ModelDigestError(
            f"model {redact(uri)}: ModelDigestError: expected {expected}, found {found}; the artifact changed after "
            "it was pinned: "
            "clear the task to resolve the model again, or find out who rewrote it"
        )
    return found


def download_model(uri: str, destination: Path) -> Path:
    """Download a model's artifacts below ``destination`` and return the directory that holds ``MLmodel``.

    :raises ModelError: there is no such model, or it may not be read.
    :raises UnreachableError: the server does not answer.
    :raises UsageError: the URI needs a tracking server and none is named.
    """
    with _downloading(uri):
        import mlflow.artifacts

        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(destination)))


def download_mlmodel(uri: str, destination: Path) -> None:
    """Download a model's ``MLmodel`` alone into ``destination``; raises what :func:`download_model` does."""
    with _downloading(uri):
        # `download_artifacts` knows no path inside models:/m-….
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(uri).download_artifacts(_MLMODEL, str(destination))  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _downloading(uri: str) -> Iterator[None]:
    if uri.startswith(_REMOTE_SCHEMES) and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UsageError(
            f"MLFLOW_TRACKING_URI is not set, but {redact(uri)} lies on a tracking server; set it or pass "
            "--tracking-uri"
        )
    with quick_imports():
        import mlflow.artifacts  # noqa: F401  # what takes the time; the caller's own import finds it
        from mlflow.exceptions import MlflowException
    try:
        yield
    except (MlflowException, OSError, ImportError, ValueError) as problem:
        if is_unreachable(problem):
            raise UnreachableError(
                f"model {redact(uri)}: {one_line(problem)}; check MLFLOW_TRACKING_URI and the network"
            ) from problem
        raise ModelError(
            f"model {redact(uri)} cannot be downloaded: {one_line(problem)}; check the URI and the permissions"
        ) from problem


def read_mlmodel(directory: Path) -> Mapping[str, Any]:
    """Parse a model's ``MLmodel``. :raises ModelError: it is no YAML mapping."""
    import yaml

    try:
        parsed = yaml.safe_load((directory / _MLMODEL).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise ModelError(
            f"{directory / _MLMODEL}: cannot be read: {one_line(problem)}; log the model again"
        ) from problem
    if not isinstance(parsed, dict):
        raise ModelError(f"{directory / _MLMODEL}: is no YAML mapping; log the model again")
    return parsed


def load_model(directory: Path, uri: str) -> Model:
    """Load a model with ``mlflow.pyfunc``.

    :raises ModelError: it does not load; the message holds the reason, usually a package missing from the image.
    """
    with quick_imports():
        import mlflow.pyfunc

        if (directory / "code").is_dir():
            sys.dont_write_bytecode = True  # or a local model's own modules get a __pycache__ beside them
        try:
            # mlflow's own check of the requirements maps every file of every package (0.4 s): `list_mismatches`.
            model: Model = mlflow.pyfunc.load_model(str(directory), suppress_warnings=True)
        except Exception as problem:
            raise ModelError(
                f"model {redact(uri)} does not load: {one_line(problem)}; does the image hold what requirements.txt "
                "of the model lists?"
            ) from problem
    return model


def list_mismatches(directory: Path) -> list[str]:
    """Compare the model's pinned requirements with what is installed; one text per difference."""
    try:
        lines = (directory / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    differences = []
    for line in lines:
        name, separator, wanted = line.partition(";")[0].strip().partition("==")
        if not separator or name in _NOT_COMPARED:
            continue
        installed = _installed_version(name.partition("[")[0])
        if installed != wanted:
            differences.append(f"{name} {wanted} (installed: {installed})")
    return differences


def _installed_version(name: str) -> str:
    for distribution in (name, _STAND_INS.get(name, name)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return "absent"


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import without garbage collection (a tenth of the time: thousands of live objects and no garbage)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
