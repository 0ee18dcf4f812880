"""Publishing on real bare repositories."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_mlops_provider.exceptions import AccessDeniedError, PermanentError, TransientError
from airflow_mlops_provider.hooks import git as git_module
from airflow_mlops_provider.hooks.git import GitBranch, publish_files


def git(*arguments: str, cwd: Path) -> str:
    people = {f"GIT_{role}_{key}": "x" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = {**os.environ, **people, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    bare, clone = tmp_path / "remote.git", tmp_path / "clone"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(bare), cwd=tmp_path)
    git("clone", "--quiet", str(bare), str(clone), cwd=tmp_path)
    (clone / "README").write_text("kept\n")
    (clone / "old.yaml").write_text("gone\n")
    git("add", ".", cwd=clone)
    git("commit", "--quiet", "-m", "Start", cwd=clone)
    git("push", "--quiet", "origin", "HEAD:main", cwd=clone)
    return bare


def target(remote: Path, branch: str = "main") -> GitBranch:
    return GitBranch(url=str(remote), branch=branch)


def test_one_commit_holds_the_files_and_nothing_else_changes(remote: Path) -> None:
    done = publish_files(
        target(remote),
        {"envs/prod/churn.yaml": "a: ж\n", "old.yaml": None},
        message="Serve churn",
        trailers={"Model-Uri": "models:/m-1", "Dag-Run": "manual\nSigned-off-by: me", "Empty": None},
    )
    assert (done.changed, done.attempts) == (True, 1)
    assert git("rev-parse", "main", cwd=remote).strip() == done.commit
    assert git("show", "main:envs/prod/churn.yaml", cwd=remote) == "a: ж\n"
    assert git("ls-tree", "-r", "--name-only", "main", cwd=remote).split() == ["README", "envs/prod/churn.yaml"]
    assert git("log", "-1", "--format=%an|%B", cwd=remote).strip() == (
        "airflow-mlops|Serve churn\n\nModel-Uri: models:/m-1\nDag-Run: manual Signed-off-by: me"
    )
    assert git("log", "--format=%s", cwd=remote).split("\n")[:2] == ["Serve churn", "Start"]


def test_the_same_again_makes_no_commit(remote: Path) -> None:
    first = publish_files(target(remote), {"a": "1"}, message="One")
    again = publish_files(target(remote), {"a": "1"}, message="Two")
    assert (again.changed, again.commit) == (False, first.commit)
    assert publish_files(target(remote), {"missing": None}, message="Three").changed is False


def test_what_is_kept_is_decided_on_what_is_there(remote: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    def keep(path: str, there: str | None) -> bool:
        seen.append((path, there))
        return path == "README"

    done = publish_files(target(remote), {"README": "other", "new": "1", "old.yaml": "2"}, message="One", keep=keep)
    assert seen == [("README", "kept\n"), ("new", None), ("old.yaml", "gone\n")]
    assert done.former == {"new": None, "old.yaml": "gone\n"}
    assert git("show", "main:README", cwd=remote) == "kept\n"


def test_twelve_at_once_all_land(remote: Path) -> None:
    with ThreadPoolExecutor(12) as pool:
        done = list(
            pool.map(lambda n: publish_files(target(remote), {f"envs/{n}.yaml": str(n)}, message=f"N {n}"), range(12))
        )
    assert len({item.commit for item in done}) == 12
    assert max(item.attempts for item in done) > 1
    assert [git("show", f"main:envs/{n}.yaml", cwd=remote) for n in range(12)] == [str(n) for n in range(12)]
    assert len(git("log", "--format=%H", cwd=remote).split()) == 13


def test_lost_answer_to_a_push_makes_no_second_commit(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = git_module._Git.push

    def lose(self: git_module._Git, commit: str) -> bool:
        real(self, commit)
        raise TransientError("connection reset")

    monkeypatch.setattr(git_module._Git, "push", lose)
    with pytest.raises(TransientError):
        publish_files(target(remote), {"a": "1"}, message="One")
    monkeypatch.undo()
    assert publish_files(target(remote), {"a": "1"}, message="One").changed is False
    assert git("log", "--format=%s", cwd=remote).split() == ["One", "Start"]


def test_server_rules_are_told_and_not_fought(remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no tickets named >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(PermanentError, match="the server's rules refuse the commit") as caught:
        publish_files(target(remote), {"a": "1"}, message="One")
    assert "no tickets named" in str(caught.value)


def test_missing_branch_and_repository_are_named(remote: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"^branch prod of .*couldn't find remote ref"):
        publish_files(target(remote, "prod"), {"a": "1"}, message="One")
    with pytest.raises(PermanentError, match="name an existing repository"):
        publish_files(target(tmp_path / "nowhere"), {"a": "1"}, message="One")


def test_unreachable_server_may_be_tried_again_and_no_password_is_told() -> None:
    there = GitBranch(url="http://robot:s3cret@127.0.0.1:9/x.git", branch="main")
    with pytest.raises(
        TransientError, match=r"^branch main of http://127\.0\.0\.1:9/x\.git: git fetch failed"
    ) as caught:
        publish_files(there, {"a": "1"}, message="One")
    assert "s3cret" not in f"{caught.value!r}{there!r}{there}"


def test_refused_log_in_is_permanent(tmp_path: Path) -> None:
    script = tmp_path / "ssh"
    script.write_text("#!/bin/sh\necho 'git@host: Permission denied (publickey).' >&2\nexit 255\n")
    script.chmod(0o755)
    there = GitBranch(url="git@host:x.git", branch="main", variables={"GIT_SSH_COMMAND": str(script)})
    with pytest.raises(AccessDeniedError, match="check the connection's key or token"):
        publish_files(there, {"a": "1"}, message="One")


def test_silent_server_is_left_in_time(tmp_path: Path) -> None:
    script = tmp_path / "ssh"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    there = GitBranch(url="git@host:x.git", branch="main", variables={"GIT_SSH_COMMAND": str(script)})
    with pytest.raises(TransientError, match="no answer in time"):
        publish_files(there, {"a": "1"}, message="One", total_seconds=1)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../../b", ".git/config", "a/.GIT/x", "a\nb"])
def test_paths_outside_the_tree_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path inside a repository"):
        publish_files(GitBranch(url="x", branch="main"), {path: "1"}, message="One")
