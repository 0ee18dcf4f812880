"""Decides how the runtime image is put together: three layers, each built anew only when its parts change.

base (Debian minbase and its Python, once) · dependencies (the versions of the root ``uv.lock``) · source
(``model_runtime``). The program runs as user 65532, writes nowhere but /tmp, and needs no PYTHONPATH (KServe's
webhook refuses that).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from pathlib import Path

from devcluster import containers, external, gobuild, oci, rootfs
from devcluster.errors import DevclusterError, MissingRequirementError
from devcluster.layout import Layout
from devcluster.progress import say

NAME = "mlops.local/model-runtime:dev"
_ROOT = Path(__file__).parent.parent
_SOURCE = _ROOT / "model_runtime"
_DISTRIBUTION = "mlops-model-runtime"
_EXTRAS = ("sklearn", "serve")
#: Raise it when this module makes the dependency or the source layer in another way.
_GENERATION = "1"
_KEPT_LAYERS = 4
_CONFIG = {
    "User": f"{rootfs.USER_ID}:{rootfs.USER_ID}",
    "Entrypoint": ["mlops-runtime"],
    "WorkingDir": "/tmp",
    "Env": [
        "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8",
        "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1",
    ],
}  # fmt: skip


def refuse_without_own_cluster() -> None:
    """Stop where the cluster is somebody else's and no image is named."""
    if external.kubeconfig() is not None and external.image() is None:
        raise DevclusterError(
            f"no image can be loaded into {external.VARIABLE}'s cluster; push one and set {external.IMAGE_VARIABLE}"
        )


def ensure(layout: Layout | None, name: str = NAME, added: Sequence[str] = ()) -> str:
    """Build the image as far as needed, load it, and return its name.

    :param layout: the cluster to load it into; None for somebody else's, which has to have it already.
    :param added: further requirements, in a layer of their own; such an image should have a name of its own.
    """
    if layout is None:
        refuse_without_own_cluster()
        return external.image() or ""
    with gobuild.exclusive(layout.cache / "image.lock"):
        built = build(layout.cache, name, added)
        if containers.load(layout, built):
            say(f"loaded {built.name}")
    return built.name


def build(cache: Path, name: str = NAME, added: Sequence[str] = ()) -> oci.Image:
    """Make the layers that are missing in the cache."""
    if not (_SOURCE / "pyproject.toml").exists():
        raise DevclusterError(f"{_SOURCE} holds no sources: there is nothing to build the image from")
    base = rootfs.ensure(cache)
    layers = cache / "layers"
    requirements = _export_requirements()
    dependencies_key = _key("dependencies", requirements, base.layer.digest, platform.machine())
    dependencies = _layer(layers, dependencies_key, lambda tree: _install_dependencies(base, requirements, tree))
    between = [_add_layer(base, layers, requirements, added)] if added else []
    source_key = _key("source", *_source_files(), dependencies_key)
    source = _layer(layers, source_key, lambda tree: _install_source(base, tree))
    for kind in ("dependencies", "source"):
        _forget_old(layers, kind)
    return oci.compose(name, [base.layer, dependencies, *between, source], _CONFIG)


def _add_layer(base: rootfs.BaseRoot, layers: Path, requirements: str, added: Sequence[str]) -> oci.Layer:
    """Make a layer of what ``added`` needs beside the locked versions, which stay as they are."""
    locked = re.findall(r"^[A-Za-z0-9._-]+==[^\\\n]*", requirements, re.MULTILINE)
    with tempfile.TemporaryDirectory() as scratch:
        wanted, constraints = Path(scratch, "wanted.txt"), Path(scratch, "constraints.txt")
        wanted.write_text("\n".join(added))
        constraints.write_text("\n".join(locked))
        found = _uv("pip", "compile", str(wanted), "--constraint", str(constraints), "--quiet", "--no-header",
                    "--no-annotate", "--python-version", base.python_version)  # fmt: skip
    known = {line.partition("==")[0] for line in locked}
    missing = "\n".join(line for line in found.splitlines() if line.partition("==")[0] not in known)
    key = _key("added", missing, base.layer.digest, platform.machine())
    layer = _layer(layers, key, lambda tree: _install_dependencies(base, missing, tree))
    _forget_old(layers, "added")
    return layer


def _key(kind: str, *parts: str) -> str:
    digest = hashlib.sha256("\0".join([_GENERATION, *parts]).encode()).hexdigest()
    return f"{kind}-{digest[:16]}"


def _layer(layers: Path, key: str, fill: Callable[[Path], None]) -> oci.Layer:
    found = oci.cached(layers, key)
    if found is None:
        say(f"building the image's {key.partition('-')[0]} layer")
        layers.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=layers, prefix="tree-") as tree:
            Path(tree).chmod(0o755)
            fill(Path(tree))
            found = oci.pack(Path(tree), layers, key)
    with contextlib.suppress(OSError):
        os.utime(found.path)  # what is used stays longest
    return found


def _forget_old(layers: Path, kind: str) -> None:
    tars = sorted(layers.glob(f"{kind}-*.tar"), key=lambda p: p.stat().st_mtime, reverse=True)
    for tar in tars[_KEPT_LAYERS:]:
        tar.unlink()
        tar.with_suffix(".digest").unlink(missing_ok=True)


def _uv(*arguments: str) -> str:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise MissingRequirementError("uv is needed to build the image; put it on PATH or name it with UV")
    done = subprocess.run([uv, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevclusterError(f"uv {' '.join(arguments[:2])} failed: {' '.join(done.stderr.strip().splitlines()[-2:])}")
    return done.stdout


def _export_requirements() -> str:
    extras = [word for extra in _EXTRAS for word in ("--extra", extra)]
    return _uv(
        "export",
        "--package",
        _DISTRIBUTION,
        *extras,
        "--no-emit-workspace",
        "--no-dev",
        "--frozen",
        "--no-header",
        "--quiet",
    )


def _install_dependencies(base: rootfs.BaseRoot, requirements: str, tree: Path) -> None:
    target = tree / base.site_packages
    target.mkdir(parents=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        _uv("pip", "install", "--quiet", "--target", str(target), "--python-version", base.python_version,
            "--only-binary", ":all:", "--no-deps", "--link-mode", "copy", "-r", file.name)  # fmt: skip
    shutil.rmtree(target / "bin", ignore_errors=True)  # launchers that name this machine's Python
    base.compile(target)


def _source_files() -> Iterator[str]:
    for path in sorted(_SOURCE.rglob("*")):
        if (
            path.is_file()
            and "__pycache__" not in path.parts
            and path.suffix in {".py", ".toml", ".json", ".typed", ".md"}
        ):
            yield f"{path.relative_to(_SOURCE)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _install_source(base: rootfs.BaseRoot, tree: Path) -> None:
    target = tree / base.site_packages
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        _uv("build", "--wheel", "--quiet", "--out-dir", scratch, str(_SOURCE))
        wheel = next(Path(scratch).glob("*.whl"))
        shutil.unpack_archive(wheel, target, "zip")
    base.compile(target)
    scripts = ConfigParser()
    scripts.read(next(target.glob("*.dist-info")) / "entry_points.txt")
    directory = tree / "usr/local/bin"
    directory.mkdir(parents=True)
    for name, reference in scripts["console_scripts"].items():
        module, _, function = reference.partition(":")
        launcher = directory / name
        launcher.write_text(
            f"#!/usr/bin/python3\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        )
        launcher.chmod(0o755)
