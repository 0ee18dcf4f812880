"""Branches that mean harm: what of them reaches the disk, and what Airflow's own parser makes of it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException
from airflow.utils.file import list_py_file_paths

from airflow_mlops_provider.bundles.git import ModelGitDagBundle
from airflow_mlops_provider.bundles.preview import PreviewGitDagBundle
from airflow_mlops_provider.bundles.stubs import MARKER

from .conftest import Remote

ENVIRONMENTS = """\
apiVersion: mlops/v1
environments:
  prod: {runner: local, model: {run_tag: {stage: prod}}, allow: {uri_schemes: [file]}}
  pre: {runner: local, ephemeral: true, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}
"""
DECLARATION = """\
apiVersion: mlops/v1
model: churn
owner: a@example.com
experiment: /churn
batch: {input: 'file:///in.csv', output: 'file:///out/'}
environments: {prod: {}, pre: {}}
"""
Make = Callable[..., PreviewGitDagBundle]


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "platform" / "environments.yaml"
    file.parent.mkdir()
    file.write_text(ENVIRONMENTS)
    monkeypatch.setenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", str(file))
    return file


@pytest.fixture
def preview(make: Callable[..., ModelGitDagBundle], remote: Remote) -> Make:
    remote.push({"models/churn.yaml": DECLARATION})

    def build(**kwargs: object) -> PreviewGitDagBundle:
        return make(PreviewGitDagBundle, **kwargs)  # type: ignore[return-value]

    return build


def files(bundle: PreviewGitDagBundle) -> set[str]:
    return {path.relative_to(bundle.path).as_posix() for path in bundle.path.rglob("*") if not path.is_dir()}


def parse(bundle: PreviewGitDagBundle) -> tuple[set[str], dict[str, str]]:
    """Return what Airflow's parser finds in all that it lists: DAG IDs, and import errors by file."""
    dags: set[str] = set()
    errors: dict[str, str] = {}
    for file in list_py_file_paths(bundle.path, safe_mode=True):
        bag = DagBag(file, bundle_path=bundle.path, bundle_name="preview")
        dags |= set(bag.dags)
        errors |= {Path(name).as_posix(): text for name, text in bag.import_errors.items()}
    return dags, errors


def marking(mark: Path) -> str:
    return (
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\nfrom airflow.sdk import DAG\nDAG('prod.churn.batch')\n"
    )


def zipped(source: str) -> bytes:
    data = io.BytesIO(b"apiVersion: mlops/v1\nmodel: evil\n# ")
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("airflow_dag.py", source)
    return data.getvalue()


def test_a_declaration_obtains_ephemeral_environments_only(preview: Make, remote: Remote) -> None:
    remote.push({"models/bold.yaml": DECLARATION.replace("churn", "bold").replace("prod: {}, pre: {}", "prod: {}")})
    bundle = preview()
    bundle.initialize()
    dags, errors = parse(bundle)
    assert dags == {"pre.churn.batch"}
    [(file, text)] = errors.items()
    assert file.endswith("models/bold.yaml.mlops.py")
    assert "models/bold.yaml:2:1: environments: a preview cannot obtain 'prod'; add pre: {} [environment]" in text


def test_the_same_file_in_a_reviewed_bundle_obtains_the_others(
    make: Callable[..., ModelGitDagBundle], remote: Remote
) -> None:
    remote.push({"models/churn.yaml": DECLARATION, "models/x.yaml": DECLARATION.replace("churn", "x")})
    remote.push({"models/x.yaml": DECLARATION.replace("churn", "x").replace("prod: {}, ", "")})
    bundle = make()
    bundle.initialize()
    dags, errors = parse(bundle)  # type: ignore[arg-type]
    assert dags == {"prod.churn.batch"}
    [text] = errors.values()
    assert "models/x.yaml:2:1: environments: this bundle cannot obtain 'pre'; add prod: {} [environment]" in text


def test_nothing_of_a_hostile_branch_but_yaml_reaches_the_disk(preview: Make, remote: Remote, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = marking(mark)
    (remote.clone / "models/packed.yaml").write_bytes(zipped(code))
    (remote.clone / "models/link.yaml").symlink_to("/etc/passwd")
    (remote.clone / "linked").symlink_to("/etc")
    (remote.clone / "models/large.yaml").write_text("a: " + "x" * 300_000)
    own = {
        "dag.py": code,
        "brotli.py": code,
        "models/churn.yaml.mlops.py": MARKER + code,
        "models/deep.yaml.mlops.py/models/x.yaml": DECLARATION.replace("churn", "deep"),
        ".airflowignore": "*\n",
        "environments.yaml": ENVIRONMENTS.replace("runner: local", "runner: local, ephemeral: true"),
        "models/environments.yaml": ENVIRONMENTS.replace("pre:", "prod2:"),
        ".gitattributes": "*.yaml filter=evil\n",
    }
    commit = remote.push(own)
    remote.git("update-index", "--add", "--cacheinfo", f"160000,{commit},models/sub.yaml")
    remote.git("commit", "-q", "-m", "a submodule")
    remote.git("push", "-q", "origin", "main")
    bundle = preview()
    bundle.initialize()
    declared = {name for name in files(bundle) if name.endswith(".yaml")}
    assert declared == {"models/churn.yaml", "models/deep.yaml.mlops.py/models/x.yaml"}
    assert all((bundle.path / name).read_text().startswith(MARKER) for name in files(bundle) - declared)
    dags, errors = parse(bundle)
    assert not mark.exists()
    assert dags == {"pre.churn.batch", "pre.deep.batch"}
    shown = "\n".join(errors.values())
    assert "models/packed.yaml: is a ZIP archive" in shown
    assert "models/link.yaml: is not a regular file" in shown
    assert "models/sub.yaml: is not a regular file" in shown
    assert "models/large.yaml: is larger than 256 KiB" in shown


def test_a_reviewed_bundle_runs_the_code_of_its_repository(
    make: Callable[..., ModelGitDagBundle], remote: Remote, tmp_path: Path
) -> None:
    """The control: so would a preview, if its branch were checked out. Archives are listed whatever their name."""
    mark = tmp_path / "mark"
    (remote.clone / "models/packed.yaml").write_bytes(zipped(marking(mark)))
    remote.push({"dag.py": marking(mark)})
    bundle = make()
    bundle.initialize()
    listed = {Path(file).name for file in list_py_file_paths(bundle.path, safe_mode=True)}
    assert {"dag.py", "packed.yaml"} < listed
    parse(bundle)  # type: ignore[arg-type]
    assert mark.exists()


@pytest.mark.parametrize("setting", [None, ""])
def test_without_the_platforms_file_nothing_is_built(
    preview: Make, remote: Remote, monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    remote.push({"environments.yaml": ENVIRONMENTS})
    if setting is None:
        monkeypatch.delenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE")
    else:
        monkeypatch.setenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", setting)
    bundle = preview()
    bundle.initialize()
    dags, errors = parse(bundle)
    assert not dags
    assert "a preview may not bring environments of its own; set [mlops] environments_file" in "".join(errors.values())


def test_refresh_follows_the_branch(preview: Make, remote: Remote) -> None:
    bundle = preview(models=["*.yaml"])
    bundle.initialize()
    before = (bundle.path / "models/churn.yaml").stat()
    remote.push({"models/a.yaml/b.yaml": DECLARATION, "c/d.yaml": DECLARATION})
    bundle.refresh()
    assert (bundle.path / "models/churn.yaml").stat() == before
    assert {"models/a.yaml/b.yaml", "models/a.yaml/b.yaml.mlops.py"} < files(bundle)
    remote.push({"models/a.yaml/b.yaml": None, "c/d.yaml": None})
    for name in ("models/a.yaml", "c"):
        (remote.clone / name).rmdir()
    remote.push({"models/a.yaml": DECLARATION.replace("churn", "a"), "c": "x"})
    commit = remote.push({"models/churn.yaml": DECLARATION.replace("a@example", "b@example")})
    bundle.refresh()
    assert files(bundle) == {f"models/{name}.yaml{end}" for name in ("a", "churn") for end in ("", ".mlops.py")}
    assert "b@example" in (bundle.path / "models/churn.yaml").read_text()
    assert bundle.get_current_version().version == commit
    assert not [path for path in bundle.base_dir.rglob("*") if path.name == ".git"]


def test_a_pinned_commit_is_taken_from_the_same_files(preview: Make, remote: Remote) -> None:
    commit = remote.push({"evil.py": "x = 1\n"})
    remote.push({"models/churn.yaml": None, "models/later.yaml": DECLARATION})
    for _ in range(2):
        bundle = preview(version=commit)
        bundle.initialize()
        assert files(bundle) == {"models/churn.yaml", "models/churn.yaml.mlops.py"}
        assert bundle.get_current_version().version == commit
    assert parse(bundle)[0] == {"pre.churn.batch"}
    with pytest.raises(AirflowException, match="not supported"):
        bundle.refresh()


def test_subdir_keeps_the_rest_of_the_repository_away(preview: Make, remote: Remote) -> None:
    remote.push({"previews/b1/models/x.yaml": DECLARATION, "previewsx/models/y.yaml": DECLARATION})
    bundle = preview(subdir="previews")
    bundle.initialize()
    assert files(bundle) == {"b1/models/x.yaml", "b1/models/x.yaml.mlops.py"}
    assert "shown_as='previews/b1/models/x.yaml'" in (bundle.path / "b1/models/x.yaml.mlops.py").read_text()


def test_names_that_leave_the_bundle_are_not_written(preview: Make, remote: Remote, tmp_path: Path) -> None:
    """Git itself refuses to make such a tree; a server of somebody's own need not."""
    blob = remote.git("rev-parse", "HEAD:models/churn.yaml")
    tree = f"100644 blob {blob}\t../../models/escape.yaml\n100644 blob {blob}\t.git/models/x.yaml\n"
    for line in tree.splitlines():
        inner = _make_tree(remote, line)
        remote.git("update-ref", "refs/heads/evil", remote.git("commit-tree", inner, "-m", "evil"))
        remote.git("push", "-q", "-f", "origin", "evil")
        bundle = preview(tracking_ref="evil", models=["*.yaml"])
        bundle.initialize()
        assert files(bundle) == set()
    assert not list(tmp_path.rglob("escape.yaml"))


def _make_tree(remote: Remote, line: str) -> str:
    """Nest trees by hand: ``git mktree`` takes no slashes, ``hash-object --literally`` takes every name."""
    import subprocess

    facts, _, path = line.partition("\t")
    mode, _, sha = facts.split()
    for part in reversed(path.split("/")):
        entry = f"{mode} {part}".encode() + b"\0" + bytes.fromhex(sha)
        command = ["git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin"]
        done = subprocess.run(command, cwd=remote.clone, input=entry, check=True, capture_output=True)
        mode, sha = "40000", done.stdout.decode().strip()
    return sha


@pytest.mark.parametrize("option", [{"submodules": True}, {"sparse_dirs": ["models"]}, {"environments": "pre"}])
def test_options_that_would_open_the_bundle_are_refused(preview: Make, option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"submodules|sparse_dirs|environments"):
        preview(**option)


def test_an_unknown_branch_is_named(preview: Make) -> None:
    with pytest.raises(AirflowException, match="no branch, tag or commit 'gone'"):
        preview(tracking_ref="gone").initialize()


def test_a_branch_wins_over_a_tag_of_its_name(preview: Make, remote: Remote) -> None:
    remote.git("tag", "main", "HEAD~1")
    remote.git("push", "-q", "origin", "refs/tags/main")
    bundle = preview()
    bundle.initialize()
    assert bundle.get_current_version().version == remote.git("rev-parse", "refs/heads/main")
    assert os.listdir(bundle.path) == ["models"]
