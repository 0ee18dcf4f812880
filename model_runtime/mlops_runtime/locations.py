"""Where files lie: URI → Arrow file system and path, the input files in a stable order, their format.

Local paths are made absolute at once, because a model may change the working directory. Does I/O (listing).
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlops_runtime.errors import InputError, UnreachableError, UsageError, is_unreachable, one_line, redact

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_FORMAT_OF_SUFFIX = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_COMPRESSION_SUFFIXES = (".gz", ".bz2", ".zst")
_S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
_CONNECT_SECONDS, _REQUEST_SECONDS = 10, 60


@dataclass(frozen=True, slots=True)
class Location:
    """One address: ``scheme`` is ``file``, ``s3``, ``gs`` or one that fsspec knows; ``path`` is for its client."""

    scheme: str
    path: str

    def __str__(self) -> str:
        return self.path if self.scheme == "file" else f"{self.scheme}://{self.path}"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read."""

    location: Location
    size_bytes: int
    format: str

    def __str__(self) -> str:
        return str(self.location)


def parse_location(uri: str) -> Location:
    """Split a URI or a local path."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if uri.startswith("file:"):
            return Location("file", os.path.abspath(unquote(uri[len("file:") :])))
        return Location("file", os.path.abspath(uri))
    if scheme == "file":
        return Location("file", os.path.abspath(unquote(urlsplit(uri).path)))
    return Location({"s3a": "s3", "s3n": "s3", "gcs": "gs"}.get(scheme, scheme), rest)


def s3_endpoint() -> str | None:
    """Return the S3 endpoint that the environment names, if any."""
    return next((os.environ[name] for name in _S3_ENDPOINT_VARIABLES if os.environ.get(name)), None)


@lru_cache(maxsize=8)
def open_filesystem(scheme: str) -> FileSystem:
    """Return the Arrow file system of a scheme; credentials come from the usual variables and files of its client."""
    from pyarrow import fs

    if scheme == "file":
        return fs.LocalFileSystem()
    if scheme == "s3":
        endpoint = s3_endpoint()
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return fs.S3FileSystem(
            **({"endpoint_override": endpoint} if endpoint else {}),
            **({"region": region} if region else {}),
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_REQUEST_SECONDS,
        )
    if scheme == "gs":
        return fs.GcsFileSystem()
    import fsspec

    try:
        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError) as problem:
        raise UsageError(f"{scheme}:// cannot be read: {one_line(problem)}; install its fsspec package") from problem


def format_of(path: str) -> str:
    """Tell ``parquet``, ``csv`` or ``jsonl`` by the name's ending, ignoring a compression suffix; empty if unknown."""
    name = path.lower()
    for suffix in _COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return _FORMAT_OF_SUFFIX.get(posixpath.splitext(name)[1], "")


def list_input_files(uri: str, input_format: str = "") -> tuple[InputFile, ...]:
    """Find the input: a file, every file below a directory, or a glob (``*``, ``?``, ``[…]``, ``**``), sorted by path.

    Names that begin with ``_`` or ``.`` are left out of directories and globs: markers and unfinished files.

    :param input_format: what to take the files for, whatever their names.
    :raises InputError: nothing matches, an ending is unknown, or formats are mixed.

    """
    location = parse_location(uri)
    try:
        found = _find(location)
    except OSError as problem:
        if is_unreachable(problem):
            raise UnreachableError(
                f"{redact(uri)}: {one_line(problem)}; check the address and the network"
            ) from problem
        raise InputError(
            f"{redact(uri)}: cannot be listed: {one_line(problem)}; check path and permissions"
        ) from problem
    if not found:
        raise InputError(f"no input file at {redact(uri)}; check INPUT_URI and whether the data has arrived")
    files = tuple(
        InputFile(Location(location.scheme, path), size, input_format or format_of(path))
        for path, size in sorted(found)
    )
    for file in files:
        if not file.format:
            raise InputError(
                f"{file}: the format cannot be told from the name; end it in .parquet, .csv or .jsonl, or pass "
                "--input-format"
            )
        if file.format != files[0].format:
            raise InputError(
                f"{file}: is {file.format}, but {files[0]} is {files[0].format}; narrow INPUT_URI to one format"
            )
    return files


def _find(location: Location) -> list[tuple[str, int]]:
    from pyarrow import fs

    filesystem = open_filesystem(location.scheme)
    info = filesystem.get_file_info(location.path.rstrip("/") or "/")
    if info.type == fs.FileType.File:
        return [(info.path, info.size or 0)]
    if info.type == fs.FileType.Directory:
        base, matches = info.path, None
    else:
        base, matches = _split_glob(location.path)
        if matches is None:
            return []
    selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
    return [
        (entry.path, entry.size or 0)
        for entry in filesystem.get_file_info(selector)
        if entry.type == fs.FileType.File
        and not _is_hidden(entry.path[len(base) :])
        and (matches is None or matches.fullmatch(entry.path))
    ]


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) and "=" not in part for part in relative.split("/") if part)


def _split_glob(pattern: str) -> tuple[str, re.Pattern[str] | None]:
    wild = re.search(r"[*?\[]", pattern)
    if not wild:
        return pattern, None
    base = pattern[: wild.start()].rpartition("/")[0]
    return base or "/", re.compile(translate_glob(pattern))


def translate_glob(pattern: str) -> str:
    """Turn a glob into a regular expression; ``*`` and ``?`` stay inside one path segment, ``**/`` does not."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", pattern, flags=re.DOTALL)
    special = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        special.get(token) or (token.replace("[!", "[^") if token[0] == "[" and len(token) > 1 else re.escape(token))
        for token in tokens
    )
