"""Which Python stub stands beside which declaration, and what it says.

Airflow's DAG processor lists Python files only, so each ``models/*.yaml`` gets a ``….mlops.py`` beside it that hands
the declaration, with the bundle's offer, to the DAG factory. This module decides names and text and brings a checkout's
stubs up to date; Git, locking and Airflow are left to ``git.py``. It reads and writes files inside the checkout it is
given, follows no symbolic link, and never runs nor interprets what a repository holds: text from a repository reaches a
stub as a ``repr`` or as an escaped comment only. The caller holds the bundle's lock.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from airflow_mlops_provider.dag_factory.offer import EVERYTHING, Offer
from airflow_mlops_provider.exceptions import Problem

STUB_SUFFIX = ".mlops.py"
MARKER = "# Written by airflow-mlops-provider beside a declaration; changes are overwritten.\n"
ENVIRONMENTS_FILE = "environments.yaml"

_MAX_SHOWN_BYTES = 64 * 1024  # the declaration repeated in the stub, for the UI's Code tab
_MAX_NAME_BYTES = 255 - len(".01234567" + STUB_SUFFIX)  # NAME_MAX of every Linux file system, minus what is appended
_POD_OPERATOR = "airflow.providers.cncf.kubernetes.operators.pod"
_BATCH = re.compile(rb"\bbatch(?:_jobs)?[\"']?\s*:")
_RUNNER = re.compile(rb"\brunner[\"']?\s*:\s*[\"']?(\w+)")


@dataclass(frozen=True, slots=True)
class StubChanges:
    """What :func:`sync_stubs` did; paths are relative to the checkout."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stub:
    """A stub as it should be: where, with which text, not older than when."""

    path: Path
    text: str
    mtime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What the stubs of one checkout have in common.

    :param root: directory Airflow is given; nothing outside it is written.
    :param declarations: what :func:`find_declarations` found there.
    :param environments: the platform's environments file, where Airflow's configuration names one: each change of its
        time has every declaration parsed again. Without it the nearest ``environments.yaml`` in the checkout counts.
    :param refused: declarations that must not reach the DAG factory, and what their import error says.
    :param prefix: path of *root* in the repository.
    """

    root: Path
    declarations: Sequence[PurePosixPath]
    environments: Path | None = None
    offer: Offer = EVERYTHING
    refused: Mapping[PurePosixPath, Problem] = field(default_factory=dict)
    prefix: str = ""


def sync_stubs(checkout: Checkout, *, scratch: Path, frozen: bool = False) -> StubChanges:
    """Bring the stubs of one checkout up to date; a stub that says the right thing already is not touched.

    :param scratch: file on the same file system, outside the checkout, that each stub is written to before it is moved
        into place; a killed process leaves at most this one file.
    :param frozen: a checkout of one commit: a stub that is there stays, because running tasks read it.
    """
    root = checkout.root
    existing = {path for path in _walk(root) if path.name.endswith(STUB_SUFFIX) and _is_ours(path)}
    written, skipped, wanted = [], [], set[Path]()
    for declaration in sorted({*checkout.declarations, *checkout.refused}):
        stub = _plan(checkout, declaration)
        if stub is None:
            skipped.append(_shown(declaration))
            continue
        wanted.add(stub.path)
        if _put(stub, scratch, frozen=frozen):
            written.append(_relative(stub.path, root))
    orphans = sorted(existing - wanted)
    for orphan in orphans:
        _remove(orphan, root)
    return StubChanges(tuple(written), tuple(_relative(orphan, root) for orphan in orphans), tuple(skipped))


def find_declarations(root: Path, patterns: Sequence[str]) -> list[PurePosixPath]:
    """List a checkout's declarations, relative to it, in a stable order; symbolic links are listed, not followed.

    :param patterns: globs matched from the right, so ``models/*.yaml`` matches at any depth.
    """
    found = {PurePosixPath(path.relative_to(root).as_posix()) for path in _walk(root)}
    named = {path for path in found if any(path.match(pattern) for pattern in patterns)}
    return sorted(path for path in named if path.name != ENVIRONMENTS_FILE)


def render_stub(
    declaration: PurePosixPath, content: bytes, *, digest: str, offer: Offer = EVERYTHING, pod_operator: bool = False
) -> str:
    """Write the stub's text for a declaration that lies beside it.

    :param declaration: its path in the repository.
    :param pod_operator: name the pod operator, so that the DAG processor imports it once instead of once per parse.
    """
    imports = [f"import {_POD_OPERATOR}  # noqa: F401"] if pod_operator else []
    limits = [
        *(["    preview=True,"] if offer.preview else []),
        *([f"    allowed={offer.names!a},"] if offer.names is not None else []),
    ]
    lines = [
        f"# Airflow DAG file for {_shown(declaration)} ({digest})",
        "from pathlib import Path",
        "",
        *imports,
        "from airflow_mlops_provider import load_model_dags",
        "",
        "load_model_dags(",
        f"    Path(__file__).with_name({declaration.name!a}),",
        *limits,
        f"    shown_as={str(declaration)!a},",
        "    globals=globals(),",
        ")",
        "",
        *_comment(content),
    ]
    return MARKER + "\n".join(lines).rstrip() + "\n"


def render_refusal(problem: Problem) -> str:
    """Write a stub that shows a problem as Airflow's import error, so that a refused declaration is never silent."""
    lines = [
        f"# Airflow DAG file for {_escape(problem.file)}",
        "from airflow_mlops_provider.exceptions import DeclarationError, Problem",
        "",
        f"raise DeclarationError([{problem!a}])",
    ]
    return MARKER + "\n".join(lines) + "\n"


def file_problem(declaration: PurePosixPath, message: str) -> Problem:
    """Return a problem with the file itself."""
    return Problem(file=_shown(declaration), line=0, column=0, field="", message=message)


def _plan(checkout: Checkout, declaration: PurePosixPath) -> _Stub | None:
    source, shown = checkout.root / declaration, PurePosixPath(checkout.prefix) / declaration
    if not _is_plain_name(declaration):
        digest = hashlib.sha256(os.fsencode(str(declaration))).hexdigest()[:8]
        path = _free_path(checkout.root, f"unusable-name-{digest}")
        reason = "the path has characters that cannot be shown, or is too long; rename the file"
        return _Stub(path, render_refusal(file_problem(shown, reason)), _mtime(source)) if path else None
    path = _free_path(source.parent, source.name)
    if path is None:
        return None
    if declaration in checkout.refused:
        return _Stub(path, render_refusal(checkout.refused[declaration]), _mtime(source))
    content = read_regular(source)
    if content is None:
        reason = "is not a regular file (symbolic links are not followed); commit the file itself"
        return _Stub(path, render_refusal(file_problem(shown, reason)), _mtime(source))
    policy_file = checkout.environments or nearest_environments(checkout.root, declaration)
    policy = read_regular(policy_file) or b""
    # A file outside the checkout changes without a commit: it must not make the stubs of a pinned commit differ.
    digest = hashlib.sha256(content if checkout.environments else content + b"\0" + policy).hexdigest()[:16]
    pods = _runs_pods(content, policy)
    text = render_stub(shown, content, digest=digest, offer=checkout.offer, pod_operator=pods)
    return _Stub(path, text, max(_mtime(source), _mtime(policy_file)))


def nearest_environments(root: Path, declaration: PurePosixPath) -> Path:
    """Return the ``environments.yaml`` that counts for a declaration; it may not exist."""
    candidates = [root / parent / ENVIRONMENTS_FILE for parent in declaration.parents]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[-1])


def _runs_pods(declaration: bytes, environments: bytes) -> bool:
    """Guess cheaply whether the pod operator will be imported; a wrong guess costs time, nothing else."""
    runners = set(_RUNNER.findall(environments))
    return bool(_BATCH.search(declaration)) and bool(environments) and (b"kubernetes" in runners or not runners)


def _free_path(directory: Path, name: str) -> Path | None:
    """Choose a stub's path that no file of the repository's own occupies; ``None`` if all are taken."""
    suffix = hashlib.sha256(name.encode()).hexdigest()[:8]
    for candidate in (directory / f"{name}{STUB_SUFFIX}", directory / f"{name}.{suffix}{STUB_SUFFIX}"):
        if not os.path.lexists(candidate) or _is_ours(candidate):
            return candidate
    return None


def _put(stub: _Stub, scratch: Path, *, frozen: bool) -> bool:
    content = stub.text.encode()
    current = read_regular(stub.path)
    if current is not None and (frozen or current == content):
        if not frozen and _mtime(stub.path) < stub.mtime:
            os.utime(stub.path, (stub.mtime, stub.mtime))
            return True
        return False
    stub.path.parent.mkdir(parents=True, exist_ok=True)
    # The DAG processor parses again what is newer than its last parse: going back in time would hide the change.
    mtime = stub.mtime if current is None or stub.mtime > _mtime(stub.path) else time.time()
    scratch.write_bytes(content)
    os.utime(scratch, (mtime, mtime))
    os.replace(scratch, stub.path)
    return True


def _remove(stub: Path, root: Path) -> None:
    """Remove an orphan, and the directories that only it kept alive."""
    stub.unlink(missing_ok=True)
    for directory in stub.parents:
        if directory == root or any(directory.iterdir()):
            return
        directory.rmdir()


def _walk(root: Path) -> Iterator[Path]:
    for directory, subdirectories, files in os.walk(root, followlinks=False):
        subdirectories[:] = [name for name in subdirectories if name != ".git"]
        links = [name for name in subdirectories if Path(directory, name).is_symlink()]
        yield from (Path(directory, name) for name in (*files, *links))


def read_regular(path: Path) -> bytes | None:
    """Return a file's content, or None for a link, a device, a directory or nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        return file.read()


def _is_ours(path: Path) -> bool:
    content = read_regular(path)
    return content is not None and content.startswith(MARKER.encode())


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _is_plain_name(path: PurePosixPath) -> bool:
    return str(path).isprintable() and len(os.fsencode(path.name)) <= _MAX_NAME_BYTES


def _shown(path: PurePosixPath) -> str:
    return _escape(str(path))


def _relative(path: Path, root: Path) -> str:
    return _escape(str(path.relative_to(root)))


def _escape(text: str) -> str:
    """Make every character visible and a line a line: control, bidirectional and unencodable ones become escapes."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _comment(content: bytes) -> list[str]:
    if len(content) > _MAX_SHOWN_BYTES:
        return ["# (the declaration is too long to be repeated here)"]
    return [f"# {_escape(line)}".rstrip() for line in content.decode(errors="replace").splitlines()]
