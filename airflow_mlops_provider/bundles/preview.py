"""``PreviewGitDagBundle``: branches that nobody has reviewed, from which Airflow takes YAML and nothing else.

Decides what of such a branch reaches the disk: regular files that are declarations by name and text by content. There
is no Git checkout: each of them is written by itself from the bare repository, so a Python file, a library, an archive,
a link, an ``.airflowignore`` or an ``environments.yaml`` of the branch is never where Airflow or Python could find it.
What the declarations may obtain is decided by the DAG factory: ephemeral environments only. It does I/O: Git and files.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from airflow.dag_processing.bundles.base import BundleVersion
from airflow.providers.common.compat.sdk import AirflowException
from git import Repo
from git.exc import BadName

from airflow_mlops_provider.bundles.git import ModelGitDagBundle
from airflow_mlops_provider.bundles.stubs import ENVIRONMENTS_FILE, STUB_SUFFIX, file_problem, read_regular
from airflow_mlops_provider.declaration.yaml_document import MAX_BYTES
from airflow_mlops_provider.exceptions import Problem

_SUFFIXES = (".yaml", ".yml")
_REGULAR_MODES = (b"100644", b"100755")
_NOT_SUPPORTED = ("submodules", "sparse_dirs")


class PreviewGitDagBundle(ModelGitDagBundle):
    """:class:`ModelGitDagBundle` for a repository, branch or directory that people write without review.

    Declarations reach ephemeral environments only, and the platform's environments come from the file that
    ``[mlops] environments_file`` names in Airflow's configuration; without it every declaration is refused.
    ``submodules`` and ``sparse_dirs`` of ``GitDagBundle`` do not exist here.
    """

    preview = True

    def __init__(self, **kwargs: Any) -> None:
        for name in _NOT_SUPPORTED:
            if kwargs.get(name):
                raise ValueError(f"bundle {kwargs.get('name')}: a preview bundle takes single files; remove {name}")
        super().__init__(**kwargs)
        if not self.version:
            self.repo_path = self.base_dir / "declarations"
        self._commit: str | None = self.version
        self._refused: dict[PurePosixPath, Problem] = {}

    def get_current_version(self) -> BundleVersion:
        if self._commit is None:
            raise AirflowException(f"bundle {self.name}: has no version before it is initialised")
        return BundleVersion(version=self._commit)

    def _initialize(self) -> None:
        if self.version and self.repo_path.is_dir():
            self._sync_bare_repo_remote_url()
            return
        with self.hook.configure_hook_env() if self.hook else nullcontext():
            self._clone_bare_repo_if_required()
            self._ensure_version_in_bare_repo()
        if self.version:
            with self._built_aside("repo_path"):
                self._write_files()
        else:
            self.refresh()

    def _update(self) -> None:
        if self.version:
            raise AirflowException("Refreshing a specific version is not supported")
        with self.hook.configure_hook_env() if self.hook else nullcontext():
            self._fetch_bare_repo()
        self._write_files()

    def _refusals(self) -> dict[PurePosixPath, Problem]:
        return self._refused

    def _write_files(self) -> None:
        with Repo(self.bare_repo_path) as repo:
            commit = _find_commit(repo, self.version or self.tracking_ref)
            if commit is None:
                raise AirflowException(
                    f"bundle {self.name}: the repository has no branch, tag or commit {self.tracking_ref!r}; "
                    "push one, or name another tracking_ref"
                )
            self._refused = {}
            wanted = dict(self._read_declarations(repo, commit))
        self.path.mkdir(parents=True, exist_ok=True)
        _remove_others(self.path, wanted)
        for declaration, content in wanted.items():
            _put(self.path, declaration, content, scratch=self.base_dir / "file.tmp")
        self._commit = commit

    def _read_declarations(self, repo: Repo, commit: str) -> Iterator[tuple[PurePosixPath, bytes]]:
        """Yield what may lie on the disk; what may not, but looks like a declaration, is noted as refused."""
        for entry in _list_entries(repo, commit, self.subdir or ""):
            if not self._is_declaration(entry.path):
                continue
            content = b"" if entry.refusal else repo.odb.stream(bytes.fromhex(entry.blob)).read()
            refusal = entry.refusal or _why_not_text(content)
            if refusal is None:
                yield entry.path, content
            else:
                self._refused[entry.path] = file_problem(PurePosixPath(self.subdir or "") / entry.path, refusal)

    def _is_declaration(self, path: PurePosixPath) -> bool:
        named = any(path.match(pattern) for pattern in self.models)
        return named and path.suffix in _SUFFIXES and path.name != ENVIRONMENTS_FILE


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file of a commit.

    :param path: below the bundle's directory.
    :param refusal: why it may not lie on the disk, or None.
    """

    path: PurePosixPath
    blob: str
    refusal: str | None


def _find_commit(repo: Repo, ref: str) -> str | None:
    for name in (f"refs/heads/{ref}", ref):
        try:
            return repo.commit(name).hexsha
        except (BadName, ValueError):
            continue
    return None


def _list_entries(repo: Repo, commit: str, subdir: str) -> Iterator[_Entry]:
    below = ["--", f"{subdir.rstrip('/')}/"] if subdir else []
    listing: bytes = repo.git.ls_tree("-r", "-z", "-l", "--full-tree", commit, *below, stdout_as_string=False)
    for line in filter(None, listing.split(b"\0")):
        facts, _, name = line.partition(b"\t")
        mode, _, blob, size = facts.split()
        path = PurePosixPath(os.fsdecode(name))
        # Git makes no such names; a server that hands them out anyway must not reach beyond the bundle.
        if not any(part in ("", "/", ".", "..") or part.lower() == ".git" for part in path.parts):
            yield _Entry(path.relative_to(subdir), blob.decode(), _why_not_regular(mode, size))


def _why_not_regular(mode: bytes, size: bytes) -> str | None:
    if mode not in _REGULAR_MODES:
        return "is not a regular file (links and submodules are not followed); commit the file itself"
    if int(size) > MAX_BYTES:
        return f"is larger than {MAX_BYTES // 1024} KiB; split it or move data out of it"
    return None


def _why_not_text(content: bytes) -> str | None:
    # Airflow lists every file that ends like a ZIP archive, whatever its name, as one that may hold Python DAGs. The
    # importers of 3.3 then look at the suffix and leave it; others need not.
    if zipfile.is_zipfile(io.BytesIO(content)):
        return "is a ZIP archive; commit plain text"
    return None


def _remove_others(root: Path, wanted: Iterable[PurePosixPath]) -> None:
    """Remove all files but these and the stubs, which are judged once the declarations are in place."""
    kept = {root / path for path in wanted}
    for directory, _, files in os.walk(root, topdown=False):
        for path in (Path(directory, name) for name in files):
            if path not in kept and not path.name.endswith(STUB_SUFFIX):
                path.unlink()
        if Path(directory) != root and not any(Path(directory).iterdir()):
            Path(directory).rmdir()


def _put(root: Path, declaration: PurePosixPath, content: bytes, *, scratch: Path) -> None:
    target = root / declaration
    for directory in list(declaration.parents)[-2::-1]:
        # A stub may lie where the branch now has a directory.
        if (root / directory).is_file():
            (root / directory).unlink()
        (root / directory).mkdir(exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)  # only stubs of declarations that are gone are left in it
    if read_regular(target) != content:
        scratch.write_bytes(content)
        os.replace(scratch, target)
