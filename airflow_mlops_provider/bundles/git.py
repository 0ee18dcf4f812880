"""``ModelGitDagBundle``: a Git DAG bundle whose repository holds YAML only.

It decides when a checkout's stubs are brought up to date (after every initialise and refresh, under the bundle's own
lock between processes) and mends what ``GitDagBundle`` 1.0.1 leaves open: fetches without prune, clones that a killed
process leaves half done, a cache thrown away because the remote does not answer. What a stub says is decided in
``stubs.py``, who collides with whom in ``duplicates.py``; what a declaration means, in the DAG factory. Branches that
nobody has reviewed need ``preview.py``. It does I/O: Git, through its parent, and files.

    [dag_processor]
    dag_bundle_config_list = [{"name": "models",
        "classpath": "airflow_mlops_provider.bundles.git.ModelGitDagBundle",
        "kwargs": {"git_conn_id": "models_repo", "tracking_ref": "main"}}]
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from airflow.configuration import conf
from airflow.dag_processing.bundles.base import get_bundle_base_folder
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.git.bundles.git import GitDagBundle
from git import Repo
from git.exc import BadName, GitCommandError, InvalidGitRepositoryError

from airflow_mlops_provider.bundles.duplicates import NameReader, Neighbour, find_duplicates, write_names
from airflow_mlops_provider.bundles.preload import preload
from airflow_mlops_provider.bundles.stubs import STUB_SUFFIX, Checkout, StubChanges, find_declarations, sync_stubs
from airflow_mlops_provider.dag_factory.offer import Offer
from airflow_mlops_provider.exceptions import Problem

_TOP_LEVEL_LOCKS = ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock")
_CLONE_PREFIX = "cloning-"


class ModelGitDagBundle(GitDagBundle):
    """Expose a Git repository of model declarations as a DAG bundle; every parameter of ``GitDagBundle`` is accepted.

    :param models: glob, or several, of the declarations below the bundle's directory, matched from the right:
        ``models/*.yaml`` finds ``models/churn.yaml`` and ``teams/growth/models/churn.yaml``. Symbolic links are
        reported as import errors and never followed.
    :param environments: build DAGs for these environments of the platform's only; default: for all that are not
        ephemeral.
    """

    preview = False
    """Ephemeral environments are for :class:`~airflow_mlops_provider.bundles.preview.PreviewGitDagBundle` alone."""

    stale_lock_seconds = 10.0
    """A ``.lock`` of a killed Git is removed at this age; younger ones may belong to a process that is just ending."""

    def __init__(
        self,
        *,
        models: str | Sequence[str] = ("models/*.yaml", "models/*.yml"),
        environments: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(environments, str):
            raise ValueError(f"bundle {self.name}: environments is a list, write [{environments!r}]")
        self.models = (models,) if isinstance(models, str) else tuple(models)
        self.offer = Offer(preview=self.preview, names=tuple(environments) if environments is not None else None)
        self._names = NameReader()

    def initialize(self) -> None:
        """Clone or open the checkout and write its stubs; safe to call from several processes at once."""
        with self.lock():
            self._clear_leftovers()
            self._exclude_stubs()
            super().initialize()
            if self.version:
                self._write_stubs()

    def refresh(self) -> None:
        """Fetch, reset to the tracked ref, and write the stubs again."""
        with self.lock():
            self._clear_leftovers()
            self._exclude_stubs()
            self._update()
            self._write_stubs()
        preload()

    def _update(self) -> None:
        super().refresh()

    def _refusals(self) -> dict[PurePosixPath, Problem]:
        """Return what may not reach the DAG factory, by its path in the bundle."""
        return {}

    def _write_stubs(self) -> None:
        if not self.path.is_dir():
            return
        configured = conf.get("mlops", "environments_file", fallback=None)
        checkout = Checkout(
            root=self.path,
            declarations=find_declarations(self.path, self.models),
            environments=Path(configured) if configured else None,
            offer=self.offer,
            refused=self._refusals(),
            prefix=self.subdir or "",
        )
        scratch = self.base_dir / "stub.tmp"
        if self.version is None:
            # What is pinned was judged before its run began.
            names = self._names.read(checkout)
            write_names(self.base_dir, names, scratch=scratch)
            duplicates = find_duplicates(names, find_neighbours(self.name))
            checkout = replace(checkout, refused={**checkout.refused, **duplicates})
        changes = sync_stubs(checkout, scratch=scratch, frozen=self.version is not None)
        if changes != StubChanges():
            self._log.info("stubs brought up to date", written=len(changes.written), removed=len(changes.removed))
        if changes.skipped:
            self._log.error("files of the repository's own stand where stubs belong", declarations=changes.skipped)

    def _exclude_stubs(self) -> None:
        """Tell Git that stubs are expected, so that a clean keeps them and a checkout may overwrite them."""
        exclude = self.repo_path / ".git" / "info" / "exclude"
        line = f"*{STUB_SUFFIX}\n"
        if exclude.parent.parent.is_dir() and (not exclude.exists() or line not in exclude.read_text()):
            exclude.parent.mkdir(exist_ok=True)
            with exclude.open("a") as file:
                file.write(f"\n{line}")

    def _fetch_bare_repo(self) -> None:
        # Without prune a deleted branch `feature` blocks the fetch of a new `feature/x`: one is a file where the other
        # needs a directory. The parent gives no options to `git fetch`, so both repositories carry the setting.
        for path in (self.bare_repo.git_dir, self.repo_path / ".git"):
            if Path(path).is_dir():
                _set_config(Path(path), "fetch", "prune", "true")
        super()._fetch_bare_repo()  # type: ignore[no-untyped-call]

    def _clone_bare_repo_if_required(self) -> None:  # type: ignore[override]  # the parent's is wrapped by tenacity
        if self.bare_repo_path.exists():
            try:
                self.bare_repo = Repo(self.bare_repo_path)
                self._rewrite_bare_repo_origin(self.bare_repo)
                self._fetch_bare_repo()
            except (InvalidGitRepositoryError, GitCommandError) as error:
                # The parent deletes the bare repository here, although the remote may just not answer; every process
                # that shares it would then fail until a restart. A new one replaces it only once it is complete.
                self._log.warning("cloning the bare repository anew", error=str(error))
            else:
                return
        with self._built_aside("bare_repo_path"):
            super()._clone_bare_repo_if_required()
        self.bare_repo = Repo(self.bare_repo_path)

    def _clone_repo_if_required(self) -> None:  # type: ignore[override]
        try:
            self.repo = Repo(self.repo_path) if self.repo_path.exists() else None
        except InvalidGitRepositoryError:
            self.repo = None
        if self.repo is None:
            with self._built_aside("repo_path"):
                super()._clone_repo_if_required()
            self.repo = Repo(self.repo_path)
        elif not self.version and not _has_ref(self.repo, self.tracking_ref):
            # Cloned before the first push to the branch; the parent fetches only after its checkout has succeeded.
            self.repo.remotes.origin.fetch()
        if not self.version and not _has_ref(self.repo, self.tracking_ref):
            raise AirflowException(
                f"bundle {self.name}: the repository has no branch, tag or commit {self.tracking_ref!r} yet; "
                "push one, or name another tracking_ref"
            )

    @contextmanager
    def _built_aside(self, attribute: str) -> Iterator[None]:
        """Let the parent clone into another directory and move the finished clone into place."""
        final: Path = getattr(self, attribute)
        self.base_dir.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=_CLONE_PREFIX, dir=self.base_dir))
        setattr(self, attribute, aside / "new")
        try:
            yield
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                os.rename(final, aside / "old")
            os.rename(aside / "new", final)
        finally:
            setattr(self, attribute, final)
            shutil.rmtree(aside, ignore_errors=True)

    def _clear_leftovers(self) -> None:
        """Remove what a killed process left behind; the bundle's lock says that no other process of ours is at work."""
        for directory in self.base_dir.glob(f"{_CLONE_PREFIX}*"):
            shutil.rmtree(directory, ignore_errors=True)
        for git_dir in (self.bare_repo_path, self.repo_path / ".git"):
            _remove_stale_locks(git_dir, self.stale_lock_seconds)


def find_neighbours(name: str) -> list[Neighbour]:
    """Return the other bundles that Airflow is configured with."""
    entries: Any = conf.getjson("dag_processor", "dag_bundle_config_list", fallback=None) or []
    others = [entry["name"] for entry in entries if isinstance(entry, dict) and entry.get("name") not in (None, name)]
    return [Neighbour(other, get_bundle_base_folder(bundle_name=other)) for other in others]


def _has_ref(repo: Repo, ref: str) -> bool:
    for name in (ref, f"origin/{ref}"):
        try:
            repo.commit(name)
        except (BadName, ValueError):
            continue
        return True
    return False


def _set_config(git_dir: Path, section: str, option: str, value: str) -> None:
    with Repo(git_dir) as repo:
        if repo.config_reader("repository").get_value(section, option, "") != value:
            repo.git.config(f"{section}.{option}", value)


def _remove_stale_locks(git_dir: Path, stale_seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    while locks := [*(git_dir / name for name in _TOP_LEVEL_LOCKS), *git_dir.glob("refs/**/*.lock")]:
        ages = {lock: age for lock in locks if (age := _age_seconds(lock)) is not None}
        if not ages:
            return
        for lock, age in ages.items():
            if age >= stale_seconds:
                lock.unlink(missing_ok=True)
        sleep(0.1)


def _age_seconds(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
