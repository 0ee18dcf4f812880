"""The manifest that offers an image to KServe, and the two that are checked in."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlops_runtime.errors import UsageError
from mlops_runtime.packages import list_packages, read_packages
from mlops_runtime.serving_runtime import PACKAGES_ANNOTATION, build_serving_runtime

from airflow_mlops_provider.manifests import runtime_packages

_ROOT = Path(__file__).parents[3]
_DEPLOY = _ROOT / "deploy" / "kserve"
_IMAGE = "mlops-model-runtime:replace"


@pytest.fixture
def checked_in() -> Any:
    return yaml.safe_load((_DEPLOY / "serving-runtime.yaml").read_text())


def test_checked_in_manifest_is_the_generated_one(checked_in: Any) -> None:
    packages = json.loads(checked_in["metadata"]["annotations"][PACKAGES_ANNOTATION])
    assert checked_in == build_serving_runtime("mlops-mlflow", _IMAGE, packages)


def test_checked_in_manifest_names_what_is_locked(checked_in: Any) -> None:
    """If this fails, the lock has changed: write the manifest anew, as its head says."""
    told = json.loads(checked_in["metadata"]["annotations"][PACKAGES_ANNOTATION])["packages"]
    locked: dict[str, set[str]] = {}
    for package in tomllib.loads((_ROOT / "uv.lock").read_text())["package"]:
        locked.setdefault(package["name"], set()).add(package.get("version", ""))
    own = "mlops-model-runtime"
    assert {name: version for name, version in told.items() if name != own and version not in locked[name]} == {}
    assert {"kserve", "mlflow-skinny", "pandas", "scikit-learn", "skops", own} <= set(told)


def test_containers_are_hardened_and_named_as_kserve_wants(checked_in: Any) -> None:
    storage = yaml.safe_load((_DEPLOY / "storage-container.yaml").read_text())["spec"]["container"]
    (server,) = checked_in["spec"]["containers"]
    assert (storage["name"], server["name"]) == ("storage-initializer", "kserve-container")
    assert storage["image"] == server["image"] == _IMAGE
    assert storage["command"] == ["mlops-runtime", "fetch"]
    assert "args" not in storage  # KServe puts address and directory there
    for container in (storage, server):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is security["runAsNonRoot"] is True
        assert security["allowPrivilegeEscalation"] is security["privileged"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert "PYTHONPATH" not in [variable["name"] for variable in container.get("env", ())]


def test_kustomization_chooses_the_image_of_both() -> None:
    kustomization = yaml.safe_load((_DEPLOY / "kustomization.yaml").read_text())
    assert [image["name"] for image in kustomization["images"]] == [_IMAGE.partition(":")[0]]
    assert all((_DEPLOY / name).exists() for name in kustomization["resources"] + kustomization["configurations"])


def test_provider_reads_the_annotation_that_the_runtime_writes() -> None:
    assert runtime_packages.PACKAGES_ANNOTATION == PACKAGES_ANNOTATION
    manifest: Any = build_serving_runtime("x", "y", list_packages())
    told = json.loads(manifest["metadata"]["annotations"][PACKAGES_ANNOTATION])
    assert runtime_packages.compare_requirements("mlflow==3.1\nno-such-thing==1", None, told) == (
        "no-such-thing==1 is missing in the runtime",
    )


def test_list_of_another_image(tmp_path: Path) -> None:
    file = tmp_path / "packages.json"
    file.write_text(json.dumps(list_packages()))
    assert read_packages(str(file)) == list_packages()
    file.write_text("[]")
    with pytest.raises(UsageError, match="write it with `mlops-runtime packages`"):
        read_packages(str(file))
