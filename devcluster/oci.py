"""Decides how an image is put together: an OCI layout of uncompressed, reproducible layers, each kept in the cache
by digest.

No image builder: layers stay apart on disk, so a changed source layer costs its own size and never that of its
base. Format: https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from devcluster.errors import DevclusterError

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Layer:
    """One layer's tar file; being uncompressed, its digest is its diff ID as well."""

    digest: str
    path: Path


@dataclass(frozen=True)
class Image:
    """A named image: configuration, manifest and layers."""

    name: str
    config: bytes
    manifest: bytes
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        return _digest(self.manifest)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def pack(directory: Path, layers: Path, key: str) -> Layer:
    """Pack a directory as a layer ``key`` of the cache; the same content gives the same digest."""
    layers.mkdir(parents=True, exist_ok=True)
    building = layers / f"{key}.tmp{os.getpid()}"
    command = [
        "tar",
        "--sort=name",
        "--mtime=@0",
        "--numeric-owner",
        "--format=posix",
        "--pax-option=delete=atime,delete=ctime",
    ]
    done = subprocess.run(
        [*command, "-C", str(directory), "-cf", str(building), "."], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        building.unlink(missing_ok=True)
        raise DevclusterError(f"packing {directory} failed: {done.stderr.strip()}")
    with building.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    (layers / f"{key}.digest").write_text(digest)
    building.rename(layers / f"{key}.tar")  # last: the tar file is what says that the layer is there
    return Layer(digest, layers / f"{key}.tar")


def cached(layers: Path, key: str) -> Layer | None:
    """Return a layer that :func:`pack` has finished earlier."""
    tar = layers / f"{key}.tar"
    return Layer((layers / f"{key}.digest").read_text(), tar) if tar.exists() else None


def compose(name: str, layers: Sequence[Layer], config: dict[str, Any]) -> Image:
    """Name a stack of layers and say how it runs (``Entrypoint``, ``User``, ``Env`` …)."""
    document = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }  # fmt: skip
    data = json.dumps(document, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": _MANIFEST, "config": _descriptor(_CONFIG, _digest(data), len(data)),
        "layers": [_descriptor(_LAYER, layer.digest, layer.path.stat().st_size) for layer in layers],
    }  # fmt: skip
    return Image(name, data, json.dumps(manifest, sort_keys=True).encode(), tuple(layers))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def write_archive(image: Image, out: IO[bytes], *, present: Collection[str] = ()) -> None:
    """Write an image as a tar stream, without the blobs that the receiver already has."""
    entry = _descriptor(_MANIFEST, image.digest, len(image.manifest))
    entry["annotations"] = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    with tarfile.open(fileobj=out, mode="w|") as archive:
        _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        for data in (image.config, image.manifest):
            _add(archive, _blob(_digest(data)), data)
        for layer in image.layers:
            if layer.digest not in present:
                archive.add(layer.path, _blob(layer.digest))
        _add(archive, "index.json", json.dumps(index).encode())


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
