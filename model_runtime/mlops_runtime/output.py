"""Write one part atomically: its name, its bytes, its digest; nothing has the final name before it is complete.

Local: an unnamed file (``O_TMPFILE``), so that even ``kill -9`` leaves nothing, synced, linked and renamed over the
former part; where the file system has no unnamed files, a hidden one in the same directory. S3 and GCS: one upload
that is committed at the end and discarded on failure. Does I/O, knows nothing about models.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import re
import uuid
from typing import IO, Any, Protocol

from mlops_runtime.errors import OutputError, UnreachableError, UsageError, is_unreachable, one_line, redact
from mlops_runtime.locations import Location, format_of, parse_location, s3_endpoint

_EXTENSION = {"parquet": "parquet", "csv": "csv", "jsonl": "jsonl"}
_PART = re.compile(r"part-\d{5}-of-(\d{5})\.(\w+)")
_WRITABLE = {"s3": "s3fs", "gs": "gcsfs"}


def choose_target(uri: str, output_format: str, partition: int, partitions: int) -> tuple[Location, str]:
    """Return the part's location and its format.

    A URI that ends in ``/``, names an existing directory or has no known ending is a directory of parts; else it is
    the one file.

    :raises UsageError: several partitions would write one file, or ending and format disagree.
    """
    location = parse_location(uri)
    by_name = (
        ""
        if uri.endswith("/") or (location.scheme == "file" and os.path.isdir(location.path))
        else format_of(location.path)
    )
    if not by_name:
        chosen = output_format or "parquet"
        name = f"part-{partition:05d}-of-{partitions:05d}.{_EXTENSION[chosen]}"
        return Location(location.scheme, f"{location.path.rstrip('/')}/{name}"), chosen
    if partitions > 1:
        raise UsageError(
            f"OUTPUT_URI {redact(uri)} is one file, but there are {partitions} partitions; end it in / to get one "
            "part each"
        )
    if not location.path.lower().endswith((".parquet", ".pq", ".csv", ".jsonl", ".ndjson", ".json")):
        raise UsageError(
            f"OUTPUT_URI {redact(uri)} asks for compressed text, which is not written; use .parquet, which is "
            "compressed"
        )
    if output_format and output_format != by_name:
        raise UsageError(
            f"OUTPUT_URI {redact(uri)} ends like {by_name}, but the format is {output_format}; make them agree"
        )
    return location, by_name


class PartFile(Protocol):
    """A part being written."""

    def write(self, data: bytes) -> int:
        """Append bytes."""
        ...

    def commit(self) -> None:
        """Make the part visible, whole, under its name."""
        ...

    def discard(self) -> None:
        """Leave no trace of it; harmless after ``commit``."""
        ...


class DigestingFile:
    """The file object that encoders see: counts and hashes what passes."""

    closed = False

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        chunk = memoryview(data)
        self._hash.update(chunk)
        self.size_bytes += chunk.nbytes
        self._part.write(bytes(chunk))
        return chunk.nbytes

    def tell(self) -> int:
        return self.size_bytes

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is held here."""

    def close(self) -> None:
        """The part is closed by ``commit`` or ``discard``."""

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"


class LocalPart:
    """A part on a local or mounted file system."""

    def __init__(self, path: str) -> None:
        self._path = path
        directory, name = os.path.split(path)
        os.makedirs(directory, exist_ok=True)
        self._hidden = os.path.join(directory, f".{name}.{uuid.uuid4().hex}.tmp")
        self._remove_remains(directory, name)
        self._unnamed = True
        try:
            descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666)
        except OSError as problem:
            if problem.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
            self._unnamed = False
            descriptor = os.open(self._hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")

    @staticmethod
    def _remove_remains(directory: str, name: str) -> None:
        """Delete what a killed run of the same part left, where files must have names."""
        for entry in os.scandir(directory):
            if entry.name.startswith(f".{name}.") and entry.name.endswith(".tmp"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)

    def write(self, data: bytes) -> int:
        # After `discard` Arrow's writers still end their files, when they are collected.
        return len(data) if self._file.closed else self._file.write(data)

    def commit(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        directory = os.open(os.path.dirname(self._path), os.O_RDONLY)
        try:
            if self._unnamed:
                # Naming a directory makes Python call linkat(2), which can follow the link; link(2) cannot.
                os.link(
                    f"/proc/self/fd/{self._file.fileno()}", self._hidden, dst_dir_fd=directory, follow_symlinks=True
                )
            os.rename(self._hidden, self._path)
            os.fsync(directory)
        finally:
            os.close(directory)
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._hidden)
        with contextlib.suppress(OSError):
            self._file.close()


class ObjectPart:
    """A part in an object store: fsspec's deferred commit, i.e. a multipart upload completed at the end."""

    def __init__(self, location: Location) -> None:
        self._done = False
        self._file = _object_store(location.scheme).open(location.path, "wb", autocommit=False)

    def write(self, data: bytes) -> int:
        return len(data) if self._file.closed else int(self._file.write(data))

    def commit(self) -> None:
        self._file.close()
        self._file.commit()
        self._done = True

    def discard(self) -> None:
        if self._done:
            return
        # Any error here would hide the one that led here; an upload that is never completed is never visible.
        with contextlib.suppress(Exception):
            self._file.discard()
        self._file.closed = True  # or its finaliser would flush and commit


def _object_store(scheme: str) -> Any:
    if scheme not in _WRITABLE:
        raise UsageError(f"{scheme}:// cannot be written atomically; use a local path, s3:// or gs:// for OUTPUT_URI")
    import fsspec

    endpoint = s3_endpoint() if scheme == "s3" else None
    try:
        return fsspec.filesystem(scheme, **({"endpoint_url": endpoint} if endpoint else {}))
    except ImportError as problem:
        raise UsageError(f"{scheme}:// needs the package {_WRITABLE[scheme]}; add it to the image") from problem


def open_part(location: Location) -> PartFile:
    """Begin a part. :raises OutputError: the place cannot be written."""
    with translated(location):
        return LocalPart(location.path) if location.scheme == "file" else ObjectPart(location)


def refuse_strangers(location: Location, partitions: int) -> None:
    """Refuse a directory that holds parts of a run with other partitions or format: readers would see rows twice.

    :raises OutputError: names one such part.
    """
    directory, name = posixpath.split(location.path)
    if not _PART.fullmatch(name):
        return
    with translated(location):
        if location.scheme == "file":
            names = os.listdir(directory) if os.path.isdir(directory) else []
        else:
            store = _object_store(location.scheme)
            names = (
                [posixpath.basename(str(path)) for path in store.ls(directory, detail=False)]
                if store.exists(directory)
                else []
            )
    for other in sorted(names):
        found = _PART.fullmatch(other)
        if found and (int(found[1]), found[2]) != (partitions, name.rpartition(".")[2]):
            raise OutputError(
                f"{Location(location.scheme, directory)}/{other} was written by a run with other partitions or "
                "format, and readers "
                "would see its rows beside ours; remove the old parts or use another OUTPUT_URI"
            )


@contextlib.contextmanager
def translated(location: Location) -> Any:
    """Turn the stores' errors about one part into ours."""
    try:
        yield
    except OSError as problem:
        if is_unreachable(problem):
            raise UnreachableError(f"{location}: {one_line(problem)}; check the address and the network") from problem
        raise OutputError(
            f"{location}: cannot be written: {one_line(problem)}; check path, space and permissions"
        ) from problem
