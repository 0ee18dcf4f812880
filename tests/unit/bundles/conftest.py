"""A real bare repository with one clone to push from, and bundles that keep everything below ``tmp_path``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.git.bundles.git import GitDagBundle

from airflow_mlops_provider.bundles.git import ModelGitDagBundle

YAML = "apiVersion: mlops/v1\nmodel: churn\n"


class Remote:
    """A bare repository and a clone that commits to it."""

    def __init__(self, directory: Path) -> None:
        self.url, self.clone = directory / "remote.git", directory / "clone"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.url], check=True)
        subprocess.run(["git", "clone", "-q", self.url, self.clone], check=True, capture_output=True)
        self.git("config", "user.name", "test")
        self.git("config", "user.email", "test@example.com")
        self.git("checkout", "-q", "-B", "main")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.clone, check=True, capture_output=True, text=True
        ).stdout.strip()

    def push(self, files: dict[str, str | None]) -> str:
        """Commit files (``None`` removes one) to main, push, and return the commit."""
        for name, content in files.items():
            path = self.clone / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
        return self.push_all()

    def push_all(self) -> str:
        self.git("add", "-A", ".")
        self.git("commit", "-q", "-m", "change")
        self.git("push", "-q", "origin", "main")
        return self.git("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    # Without this the hook looks for the connection in the metadata database.
    monkeypatch.setenv("AIRFLOW_CONN_GIT_DEFAULT", '{"conn_type": "git"}')
    return tmp_path / "bundles"


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = Remote(tmp_path)
    made.push({"models/churn.yaml": YAML, "README.md": "models only\n"})
    return made


@pytest.fixture
def make(remote: Remote) -> Callable[..., ModelGitDagBundle]:
    def build(cls: type[GitDagBundle] = ModelGitDagBundle, **kwargs: object) -> GitDagBundle:
        return cls(**{"name": "models", "repo_url": str(remote.url), "tracking_ref": "main", **kwargs})

    return build
