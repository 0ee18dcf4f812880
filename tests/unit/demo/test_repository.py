"""The bare repository on real Git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from airflow_mlops_provider.demo.process import DemoError
from airflow_mlops_provider.demo.repository import BareRepository


def test_pushed_files_arrive_and_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    repository = BareRepository(tmp_path / "git")
    first = repository.commit_and_push({"models/отток.yaml": "model: churn\n", "README.md": "x\n"}, "Первый")
    second = repository.commit_and_push({"README.md": None})
    monkeypatch.delenv("GIT_DIR")
    command = ["git", "-c", "core.quotePath=false", "-C", repository.url]
    listed = subprocess.run([*command, "ls-tree", "-r", "--name-only", "main"], capture_output=True, text=True)
    assert listed.stdout.split() == ["models/отток.yaml"]
    logged = subprocess.run([*command, "log", "--format=%H", "main"], capture_output=True, text=True)
    assert logged.stdout.split() == [second, first]


def test_a_failed_command_says_why(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match=r"git checkout nowhere failed: error: pathspec"):
        BareRepository(tmp_path).git("checkout", "nowhere")
