"""Committing for Argo CD, on a real bare repository."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops_provider.manifests.inference_service_seal import read_spec_hash
from airflow_mlops_provider.operators.argocd import KServeCommitOperator, KServeRevertOperator

RUNTIME = "GET /apis/serving.kserve.io/v1alpha1/clusterservingruntimes/mlops-mlflow"
PATH = "live/churn/inferenceservice.yaml"


def git(*arguments: str, cwd: Path) -> str:
    people = {f"GIT_{role}_{key}": "x" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = {**os.environ, **people, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kube_api: Any) -> Path:
    """The repository of the connection ``gitops``, and an API server that knows the runtime."""
    bare, clone = tmp_path / "remote.git", tmp_path / "clone"
    git("init", "--quiet", "--bare", "--initial-branch=main", str(bare), cwd=tmp_path)
    git("clone", "--quiet", str(bare), str(clone), cwd=tmp_path)
    (clone / "README").write_text("kept\n")
    git("add", ".", cwd=clone)
    git("commit", "--quiet", "-m", "Start", cwd=clone)
    git("push", "--quiet", "origin", "HEAD:main", cwd=clone)
    monkeypatch.setenv("AIRFLOW_CONN_GITOPS", json.dumps({"conn_type": "git", "host": str(bare)}))
    kube_api({RUNTIME: (200, {"metadata": {}, "spec": {}})})
    return bare


def commit(context: dict[str, Any], model: dict[str, Any], **fields: Any) -> dict[str, Any]:
    place = {"name": "churn", "namespace": "ml", "kubernetes_conn_id": "k8s_prod", "mlflow_conn_id": "mlflow_prod"}
    target = {"git_conn_id": "gitops", "directory": "live", "tracking_uri": "http://mlflow"}
    task = KServeCommitOperator(task_id="commit", model=model, environment="prod", **{**place, **target, **fields})
    return task.execute(context)  # type: ignore[arg-type]


def revert(context: dict[str, Any], committed: Any, on_failure: str = "rollback") -> str:
    task = KServeRevertOperator(task_id="revert", committed=committed, on_failure=on_failure, git_conn_id="gitops")
    return task.execute(context)  # type: ignore[arg-type]


def subjects(remote: Path) -> list[str]:
    return git("log", "--format=%s", "main", cwd=remote).splitlines()


def test_the_manifest_is_committed_with_its_seal(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    done = commit(context, resolved, min_replicas=2)
    manifest = yaml.safe_load(git("show", f"main:{PATH}", cwd=remote))
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("InferenceService", "churn")
    assert manifest["spec"]["predictor"]["minReplicas"] == 2
    assert read_spec_hash(manifest) == done["spec_hash"]
    assert (done["changed"], done["path"], done["former"]) == (True, PATH, None)
    assert git("rev-parse", "main", cwd=remote).strip() == done["commit"]
    message = git("log", "-1", "--format=%B", "main", cwd=remote)
    assert message.startswith("Serve churn in prod: models:/m-0\n\nModel-Uri: models:/m-0\nModel-Digest: sha256:0\n")
    assert "Dag-Run: d r\n" in message


def test_another_run_of_the_same_service_commits_nothing(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    first = commit(context, resolved)
    again = commit({**context, "run_id": "later"}, {**resolved, "resolved_at": "2026-02-02T00:00:00+00:00"})
    assert (again["changed"], again["commit"], again["spec_hash"]) == (False, first["commit"], first["spec_hash"])
    other = commit(context, {**resolved, "uri": "models:/m-1", "digest": "sha256:1"})
    assert other["changed"]
    assert read_spec_hash(yaml.safe_load(other["former"])) == first["spec_hash"]


class Store(dict[str, Any]):
    """Stands for Airflow's store of a task's state, which outlives a try."""

    set = dict.__setitem__


def test_a_retry_still_knows_what_was_there(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    commit(context, resolved)
    before = git("show", f"main:{PATH}", cwd=remote)
    held = {**context, "task_state_store": Store()}
    other = {**resolved, "uri": "models:/m-1", "digest": "sha256:1"}
    first = commit(held, other)
    again = commit(held, other)  # the first try died after its push
    assert (first["former"], again["former"]) == (before, before)
    assert (again["changed"], again["commit"]) == (True, first["commit"])
    cleared = {**held, "ti": SimpleNamespace(**{**vars(held["ti"]), "max_tries": 1})}
    assert commit(cleared, other)["changed"] is False


def test_a_file_edited_by_hand_is_written_again(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    commit(context, resolved)
    clone = remote.parent / "clone"
    git("pull", "--quiet", "origin", "main", cwd=clone)
    file = clone / PATH
    file.write_text(file.read_text().replace("minReplicas: 1", "minReplicas: 9"))
    git("commit", "--quiet", "-am", "Edit", cwd=clone)
    git("push", "--quiet", "origin", "HEAD:main", cwd=clone)
    assert commit(context, resolved)["changed"]
    assert "minReplicas: 1" in git("show", f"main:{PATH}", cwd=remote)


def test_revert_brings_the_former_file_back(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    commit(context, resolved)
    before = git("show", f"main:{PATH}", cwd=remote)
    done = commit(context, {**resolved, "uri": "models:/m-1", "digest": "sha256:1"})
    assert revert(context, done) == git("rev-parse", "main", cwd=remote).strip()
    assert git("show", f"main:{PATH}", cwd=remote) == before
    assert subjects(remote)[0] == "Take churn back: its deployment failed"


def test_revert_touches_nothing_that_came_later(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    commit(context, resolved)
    done = commit(context, {**resolved, "uri": "models:/m-1", "digest": "sha256:1"})
    later = commit(context, {**resolved, "uri": "models:/m-2", "digest": "sha256:2"})
    with pytest.raises(AirflowSkipException, match="asks for another service by now"):
        revert(context, done)
    assert git("rev-parse", "main", cwd=remote).strip() == later["commit"]


def test_what_was_not_there_before_goes_only_if_told_so(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    done = commit(context, resolved)
    with pytest.raises(AirflowSkipException, match="no former version"):
        revert(context, done)
    revert(context, done, "delete_if_created")
    assert git("ls-tree", "-r", "--name-only", "main", cwd=remote).split() == ["README"]


@pytest.mark.parametrize("committed", [None, {"changed": False}])
def test_nothing_committed_is_nothing_to_revert(context: Any, committed: Any) -> None:
    with pytest.raises(AirflowSkipException, match="nothing was committed"):
        revert(context, committed)


def test_missing_connection_and_branch_are_permanent(remote: Path, context: Any, resolved: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="there is no connection 'nowhere'; create one of type git"):
        commit(context, resolved, git_conn_id="nowhere")
    with pytest.raises(AirflowFailException, match=r"branch gone of .*name an existing repository and branch"):
        commit(context, resolved, branch="gone")
    assert subjects(remote) == ["Start"]


def test_what_the_deploy_operator_refuses_is_not_committed(
    remote: Path, context: Any, resolved: dict[str, Any]
) -> None:
    with pytest.raises(AirflowFailException, match="neither a ServingRuntime of namespace"):
        commit(context, resolved, runtime="unknown")
    with pytest.raises(AirflowFailException, match="min_replicas=0"):
        commit(context, resolved, min_replicas=0)
    assert subjects(remote) == ["Start"]
