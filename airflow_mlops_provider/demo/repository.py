"""A real bare Git repository with a clone to commit from. Runs ``git``; the user's Git settings are not read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from airflow_mlops_provider.demo.process import DemoError

_SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@example.com",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@example.com",
}


class BareRepository:
    """A repository that Airflow fetches from and people push to.

    :param directory: made if it is missing; holds ``models.git`` and the clone.
    """

    def __init__(self, directory: Path, branch: str = "main") -> None:
        self.path, self.clone, self.branch = directory / "models.git", directory / "clone", branch
        self.url = str(self.path)
        directory.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.git("init", "--quiet", "--bare", f"--initial-branch={branch}", str(self.path), cwd=directory)
            self.git("clone", "--quiet", str(self.path), str(self.clone), cwd=directory)
            self.git("checkout", "--quiet", "-B", branch)

    def commit_and_push(self, files: Mapping[str, str | None], message: str = "Change the models") -> str:
        """Commit files (``None`` removes one), push, and return the commit."""
        for name, content in files.items():
            path = self.clone / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
        self.git("add", "--all", ".")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", f"HEAD:{self.branch}")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run ``git`` in the clone and return what it printed.

        :raises DemoError: it failed, or is not installed.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", *arguments]
        try:
            done = subprocess.run(
                command, cwd=cwd or self.clone, env={**inherited, **_SETTINGS}, capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise DemoError("git is not installed; install it with the system's package manager") from error
        if done.returncode:
            raise DemoError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout.strip()
