"""Download a model into a directory, complete or not at all.

``MLmodel`` is what makes a directory a model, so it always arrives last: by renaming the whole directory, or, where the
destination exists already (a mounted volume cannot be renamed over), by moving it after everything else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlops_runtime.cleanup import on_exit
from mlops_runtime.errors import ModelError, OutputError, one_line
from mlops_runtime.model import (
    digest_of,
    download_mlmodel,
    download_model,
    local_model_path,
    set_mlflow_defaults,
    verify_digest,
)

_MLMODEL = "MLmodel"


def fetch(uri: str, destination: str, digest: str = "", tracking_uri: str = "") -> Path:
    """Download the model at ``uri`` into ``destination`` and return the destination.

    A destination that holds a model with ``digest`` already is left alone; one that holds anything else is refused.

    :param digest: expected ``sha256:…`` of ``MLmodel``; empty: not checked, and an existing model is
        downloaded again to compare.
    :raises ModelError: no such model, another digest, or the destination holds something else.

    """
    set_mlflow_defaults(tracking_uri)
    target = Path(destination).absolute()
    present = digest_of(target) if (target / _MLMODEL).is_file() else ""
    if digest and present == digest:
        return target
    if present and digest:
        raise ModelError(
            f"{target}: holds another model ({present}, wanted {digest}); remove it or use another directory"
        )
    try:
        return _download(uri, target, digest, present)
    except OSError as problem:
        raise OutputError(
            f"{target}: cannot be written: {one_line(problem)}; check path, space and permissions"
        ) from problem


def _download(uri: str, target: Path, digest: str, present: str) -> Path:
    base = target if target.is_dir() else target.parent
    base.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=base))
    with on_exit(lambda: shutil.rmtree(scratch, ignore_errors=True)), _temporary_files_in(scratch):
        if digest and local_model_path(uri) is None:
            _verify_first(uri, digest, scratch / "first")
        model = _copy(uri, scratch / "model")
        found = verify_digest(model, digest, uri)
        if present and present != found:
            raise ModelError(
                f"{target}: holds another model ({present}, this one is {found}); remove it or use another directory"
            )
        if not present:
            _publish(model, target)
    return target


@contextlib.contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Send there what libraries write while they download: in an init container nothing else may be writable."""
    former = tempfile.tempdir
    tempfile.tempdir = str(directory)
    try:
        yield
    finally:
        tempfile.tempdir = former


def _verify_first(uri: str, digest: str, scratch: Path) -> None:
    """Compare the digest before gigabytes are fetched; it is compared again afterwards."""
    scratch.mkdir()
    download_mlmodel(uri, scratch)
    verify_digest(scratch, digest, uri)


def _copy(uri: str, destination: Path) -> Path:
    local = local_model_path(uri)
    if local is None:
        destination.mkdir()
        return download_model(uri, destination)
    digest_of(local)  # says so if there is no model
    return Path(shutil.copytree(local, destination))


def _publish(model: Path, target: Path) -> None:
    if not target.exists():
        os.chmod(model, 0o755)  # noqa: S103  # as mkdir would have made it; the scratch directory is private
        os.rename(model, target)
        return
    for entry in sorted(model.iterdir(), key=lambda path: path.name == _MLMODEL):
        stale = target / entry.name
        if stale.is_dir():
            shutil.rmtree(stale)
        os.rename(entry, stale)
