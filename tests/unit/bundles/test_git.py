"""The bundle on real repositories: stubs, pruning, half-done clones and several processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.git.bundles.git import GitDagBundle
from airflow.sdk.exceptions import AirflowException
from git.exc import GitCommandError

from airflow_mlops_provider.bundles.git import ModelGitDagBundle
from airflow_mlops_provider.bundles.stubs import MARKER

from .conftest import YAML, Remote

Make = Callable[..., ModelGitDagBundle]


def stubs(bundle: GitDagBundle) -> dict[str, str]:
    return {str(path.relative_to(bundle.path)): path.read_text() for path in bundle.path.rglob("*.mlops.py")}


def test_initialize_writes_one_stub_beside_each_declaration(make: Make, remote: Remote) -> None:
    remote.push({"team/models/fraud.yml": YAML, "models/notes.txt": "x", "environments.yaml": "environments: {}\n"})
    bundle = make()
    bundle.initialize()
    assert set(stubs(bundle)) == {"models/churn.yaml.mlops.py", "team/models/fraud.yml.mlops.py"}
    stub, yaml = bundle.path / "models/churn.yaml.mlops.py", bundle.path / "models/churn.yaml"
    assert stub.stat().st_mtime >= yaml.stat().st_mtime


def test_refresh_follows_new_edited_and_deleted_declarations(make: Make, remote: Remote) -> None:
    bundle = make()
    bundle.initialize()
    before = (bundle.path / "models/churn.yaml.mlops.py").stat()
    time.sleep(0.02)
    remote.push({"models/churn.yaml": YAML + "owner: a@example.com\n", "models/fraud.yaml": YAML})
    bundle.refresh()
    after = (bundle.path / "models/churn.yaml.mlops.py").stat()
    assert after.st_mtime > before.st_mtime
    assert "owner: a@example.com" in stubs(bundle)["models/churn.yaml.mlops.py"]
    remote.push({"models/churn.yaml": None})
    bundle.refresh()
    assert set(stubs(bundle)) == {"models/fraud.yaml.mlops.py"}


def test_refresh_without_a_change_touches_nothing(make: Make) -> None:
    bundle = make()
    bundle.initialize()
    stub = bundle.path / "models/churn.yaml.mlops.py"
    before = stub.stat()
    time.sleep(0.02)
    bundle.refresh()
    make().initialize()
    assert (stub.stat().st_ino, stub.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_change_of_environments_reparses_every_declaration(make: Make, remote: Remote) -> None:
    remote.push({"environments.yaml": "environments: {}\n", "models/fraud.yaml": YAML})
    bundle = make()
    bundle.initialize()
    before = {path: path.stat().st_mtime for path in bundle.path.rglob("*.mlops.py")}
    for content in ("environments: {prod: {runner: local}}\n", None):
        time.sleep(0.02)
        remote.push({"environments.yaml": content})
        bundle.refresh()
        after = {path: path.stat().st_mtime for path in bundle.path.rglob("*.mlops.py")}
        assert len(after) == 2
        assert all(after[path] > before[path] for path in before)
        before = after


def test_a_pinned_commit_has_its_own_stubs_and_keeps_them(make: Make, remote: Remote) -> None:
    first = remote.git("rev-parse", "HEAD")
    remote.push({"models/fraud.yaml": YAML})
    pinned = make(version=first)
    pinned.initialize()
    assert set(stubs(pinned)) == {"models/churn.yaml.mlops.py"}
    stub = pinned.path / "models/churn.yaml.mlops.py"
    inode = stub.stat().st_ino
    make(version=first).initialize()
    assert stub.stat().st_ino == inode


@pytest.mark.parametrize("prune_dotgit_folder", [True, False])
def test_a_second_task_never_takes_the_stub_away_from_the_first(
    make: Make, remote: Remote, prune_dotgit_folder: bool
) -> None:
    commit = remote.git("rev-parse", "HEAD")
    pinned = make(version=commit, prune_dotgit_folder=prune_dotgit_folder)
    pinned.initialize()
    stub = pinned.path / "models/churn.yaml.mlops.py"
    inode = stub.stat().st_ino
    make(version=commit, prune_dotgit_folder=prune_dotgit_folder).initialize()
    assert stub.stat().st_ino == inode


def test_subdir_is_where_stubs_are_written(make: Make, remote: Remote) -> None:
    remote.push({"prod/models/fraud.yaml": YAML})
    bundle = make(subdir="prod")
    bundle.initialize()
    assert set(stubs(bundle)) == {"models/fraud.yaml.mlops.py"}
    assert not (bundle.repo_path / "models/churn.yaml.mlops.py").exists()


def test_a_directory_that_becomes_a_file_does_not_stop_the_refresh(make: Make, remote: Remote) -> None:
    remote.push({"team/models/fraud.yaml": YAML})
    bundle = make()
    bundle.initialize()
    remote.git("rm", "-rq", "team")
    remote.push({"team": "now a file\n"})
    bundle.refresh()
    assert (bundle.path / "team").read_text() == "now a file\n"
    remote.git("rm", "-q", "team")
    remote.push({"team/models/fraud.yaml": YAML})
    bundle.refresh()
    assert "team/models/fraud.yaml.mlops.py" in stubs(bundle)


def test_a_file_committed_where_a_stub_stands_wins(make: Make, remote: Remote) -> None:
    bundle = make()
    bundle.initialize()
    remote.push({"models/churn.yaml.mlops.py": "mine = 1\n"})
    bundle.refresh()
    names = stubs(bundle)
    assert names.pop("models/churn.yaml.mlops.py") == "mine = 1\n"
    assert len(names) == 1
    assert next(iter(names.values())).startswith(MARKER)


def _replace_branch_by_directory(remote: Remote) -> None:
    remote.git("push", "-q", "origin", ":feature")
    remote.git("push", "-q", "origin", "main:refs/heads/feature/x")


def test_plain_bundle_fails_when_a_branch_becomes_a_directory(make: Make, remote: Remote) -> None:
    remote.git("push", "-q", "origin", "main:refs/heads/feature")
    bundle = make(GitDagBundle)
    bundle.initialize()
    _replace_branch_by_directory(remote)
    with pytest.raises(GitCommandError):
        bundle.refresh()


def test_a_branch_that_becomes_a_directory_is_fetched(make: Make, remote: Remote) -> None:
    remote.git("push", "-q", "origin", "main:refs/heads/feature")
    bundle = make()
    bundle.initialize()
    _replace_branch_by_directory(remote)
    commit = remote.push({"models/fraud.yaml": YAML})
    bundle.refresh()
    assert "models/fraud.yaml.mlops.py" in stubs(bundle)
    make(version=commit).initialize()


def test_an_unreachable_remote_leaves_the_shared_clone_alone(make: Make, remote: Remote) -> None:
    bundle = make()
    bundle.initialize()
    away = remote.url.with_name("away.git")
    remote.url.rename(away)
    with pytest.raises(RuntimeError, match="Error cloning repository"):
        make().initialize()
    away.rename(remote.url)
    remote.push({"models/fraud.yaml": YAML})
    bundle.refresh()
    assert "models/fraud.yaml.mlops.py" in stubs(bundle)


def test_locks_and_clones_of_a_killed_process_are_cleared(
    make: Make, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelGitDagBundle, "stale_lock_seconds", 0.3)
    bundle = make()
    bundle.initialize()
    (bundle.repo_path / ".git/index.lock").touch()
    (bundle.bare_repo_path / "refs/heads/main.lock").touch()
    (bundle.base_dir / "cloning-left").mkdir()
    remote.push({"models/fraud.yaml": YAML})
    bundle.refresh()
    assert "models/fraud.yaml.mlops.py" in stubs(bundle)
    assert not list(bundle.base_dir.glob("cloning-*"))


WORKER = """
import sys, time
from pathlib import Path
from airflow_mlops_provider.bundles.git import ModelGitDagBundle
url, version, go = sys.argv[1], sys.argv[2] or None, Path(sys.argv[3])
ModelGitDagBundle.stale_lock_seconds = 1.0
bundle = ModelGitDagBundle(name="models", repo_url=url, tracking_ref="main", version=version)
print("ready", flush=True)
while not go.exists():
    time.sleep(0.005)
for _ in range(5):
    bundle.initialize()
    if not version:
        bundle.refresh()
print("done", flush=True)
"""


def _start_worker(remote: Remote, version: str, go: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(remote.url), version, str(go)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "AIRFLOW_HOME": str(go.parent / "airflow")},
    )


def _expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert any(read.strip() == line for read in iter(process.stdout.readline, ""))


def test_four_processes_and_kills_in_the_middle_leave_complete_stubs(
    make: Make, remote: Remote, tmp_path: Path
) -> None:
    commit = remote.push({f"models/m{number}.yaml": YAML for number in range(200)})
    go = tmp_path / "go"
    workers = [_start_worker(remote, version, go) for version in ("", "", commit, commit)]
    victims = [_start_worker(remote, version, go) for version in ("", commit)]
    for process in (*workers, *victims):
        _expect(process, "ready")
    go.touch()
    for delay, victim in zip((0.15, 0.25), victims, strict=True):
        time.sleep(delay)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
    for process in workers:
        _expect(process, "done")
        assert process.wait() == 0
    for bundle in (make(), make(version=commit)):
        bundle.initialize()
        found = stubs(bundle)
        assert len(found) == 201
        assert all(
            text.startswith(MARKER) and text.endswith("\n") and "load_model_dags(" in text for text in found.values()
        )
        assert not [path for path in bundle.base_dir.iterdir() if path.name.startswith("cloning-")]


def test_first_push_after_the_clone_is_picked_up(tmp_path: Path) -> None:
    """The parent clones the empty repository, and then fails for ever."""
    (tmp_path / "empty").mkdir()
    empty = Remote(tmp_path / "empty")
    bundle = ModelGitDagBundle(name="models", repo_url=str(empty.url), tracking_ref="main")
    with pytest.raises(AirflowException, match="no branch, tag or commit 'main' yet; push one"):
        bundle.initialize()
    empty.push({"models/churn.yaml": YAML})
    bundle.initialize()
    bundle.refresh()
    assert set(stubs(bundle)) == {"models/churn.yaml.mlops.py"}
