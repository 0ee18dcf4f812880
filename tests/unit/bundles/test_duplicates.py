"""The same DAG twice, in one bundle or in two: both sides say so, and neither runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_mlops_provider.bundles.duplicates import NAMES_FILE
from airflow_mlops_provider.bundles.git import ModelGitDagBundle
from airflow_mlops_provider.bundles.preview import PreviewGitDagBundle

from .conftest import Remote

Make = Callable[..., ModelGitDagBundle]
DECLARATION = "apiVersion: mlops/v1\nmodel: churn\nbatch: {input: x}\nenvironments: {prod: {}, pre: {}}\n"
ENVIRONMENTS = """\
apiVersion: mlops/v1
environments:
  prod: {runner: local, model: {run_tag: {stage: prod}}}
  test: {runner: local, model: {run_tag: {stage: test}}}
  pre: {runner: local, ephemeral: true, model: {run_tag: {stage: dev}}}
"""


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    monkeypatch.setenv("AIRFLOW__MLOPS__ENVIRONMENTS_FILE", str(tmp_path / "environments.yaml"))


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def configure(*names: str) -> None:
        entries = [{"name": name, "classpath": "…", "kwargs": {}} for name in names]
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(entries))

    return configure


def refused(bundle: ModelGitDagBundle) -> dict[str, str]:
    found = {path.relative_to(bundle.path).as_posix(): path.read_text() for path in bundle.path.rglob("*.mlops.py")}
    return {name.removesuffix(".mlops.py"): text for name, text in found.items() if "raise DeclarationError" in text}


def test_two_files_name_one_another_until_one_is_renamed(make: Make, remote: Remote) -> None:
    other = DECLARATION.replace("apiVersion", "# a\napiVersion")
    remote.push({"models/churn.yaml": DECLARATION, "b/models/churn.yml": other, "models/broken.yaml": "model: ["})
    bundle = make()
    bundle.initialize()
    found = refused(bundle)
    assert set(found) == {"models/churn.yaml", "b/models/churn.yml"}
    first = "file='models/churn.yaml', line=2, column=1, field='model', message=\"'churn' is also declared in "
    assert (
        first + "b/models/churn.yml:3 (both would make prod.churn.batch); rename one of them"
        in (found["models/churn.yaml"])
    )
    assert "is also declared in models/churn.yaml:2" in found["b/models/churn.yml"]
    remote.push({"b/models/churn.yml": DECLARATION.replace("churn", "other")})
    bundle.refresh()
    assert refused(bundle) == {}


def test_the_same_model_in_other_environments_is_no_duplicate(make: Make, remote: Remote) -> None:
    remote.push({"models/churn.yaml": DECLARATION, "models/b.yaml": DECLARATION.replace("prod", "test")})
    bundle = make()
    bundle.initialize()
    assert refused(bundle) == {}  # both name the preview's, which this bundle does not build
    narrow = make(PreviewGitDagBundle, name="previews")
    narrow.initialize()
    assert set(refused(narrow)) == {"models/churn.yaml", "models/b.yaml"}


def test_two_bundles_name_one_another(make: Make, remote: Remote, configured: Callable[..., None]) -> None:
    remote.push({"models/churn.yaml": DECLARATION})
    configured("first", "second", "never-started")
    first, second = make(name="first"), make(name="second")
    first.initialize()
    assert refused(first) == {}
    second.initialize()
    assert "also declared in bundle first, models/churn.yaml:2" in refused(second)["models/churn.yaml"]
    first.refresh()
    assert "also declared in bundle second, models/churn.yaml:2" in refused(first)["models/churn.yaml"]


def test_bundles_that_build_other_environments_do_not_collide(
    make: Make, remote: Remote, configured: Callable[..., None]
) -> None:
    remote.push({"models/churn.yaml": DECLARATION.replace("pre: {}", "test: {}, pre: {}")})
    configured("one", "two", "previews")
    bundles = [
        make(name="one", environments=["prod"]),
        make(name="two", environments=["test"]),
        make(PreviewGitDagBundle, name="previews"),
    ]
    for bundle in bundles:
        bundle.initialize()
    for bundle in bundles:
        bundle.refresh()
        assert refused(bundle) == {}


def test_bundles_that_are_gone_are_forgotten(
    make: Make, remote: Remote, configured: Callable[..., None], storage: Path
) -> None:
    remote.push({"models/churn.yaml": DECLARATION})
    configured("first", "second")
    second = make(name="second")
    make(name="first").initialize()
    second.initialize()
    assert refused(second)
    long_ago = time.time() - 100_000
    os.utime(storage / "first" / NAMES_FILE, (long_ago, long_ago))
    second.refresh()
    assert not refused(second)
    make(name="first").initialize()
    configured("second")
    second.refresh()
    assert not refused(second)


def test_a_pinned_commit_is_not_judged_again(make: Make, remote: Remote, configured: Callable[..., None]) -> None:
    commit = remote.push({"models/churn.yaml": DECLARATION})
    configured("first", "second")
    make(name="first").initialize()
    pinned = make(name="second", version=commit)
    pinned.initialize()
    assert refused(pinned) == {}
    assert not (pinned.base_dir / NAMES_FILE).exists()


def test_a_file_is_read_again_only_when_it_changed(make: Make, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    import airflow_mlops_provider.bundles.duplicates as module

    seen: list[str] = []
    read = module.read_names

    def note(path: Path) -> object:
        seen.append(path.name)
        return read(path)

    monkeypatch.setattr(module, "read_names", note)
    remote.push({f"models/m{number}.yaml": DECLARATION.replace("churn", f"m{number}") for number in range(5)})
    bundle = make()
    bundle.initialize()
    seen.clear()
    remote.push({"models/m1.yaml": DECLARATION.replace("churn", "changed")})
    bundle.refresh()
    assert seen == ["m1.yaml"]
