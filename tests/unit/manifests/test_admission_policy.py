from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_mlops_provider.cli.admission_policy import build_objects
from airflow_mlops_provider.cli.main import main
from airflow_mlops_provider.declaration import load_environments

ENVIRONMENTS = Path(__file__).parents[2] / "declarations" / "environments.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], Any]:
    found = build_objects(load_environments(ENVIRONMENTS))
    return {(item["kind"].removeprefix("ValidatingAdmission"), item["metadata"]["name"]): item for item in found}


def test_every_policy_is_bound_and_denies(objects: dict[tuple[str, str], Any]) -> None:
    policies = [name for kind, name in objects if kind == "Policy"]
    assert policies == [name for kind, name in objects if kind == "PolicyBinding"]
    for name in policies:
        assert objects["Policy", name]["spec"]["failurePolicy"] == "Fail"
        assert objects["PolicyBinding", name]["spec"] == {"policyName": name, "validationActions": ["Deny"]}


def test_local_environments_have_no_pods(objects: dict[tuple[str, str], Any]) -> None:
    names = {name for _, name in objects}
    assert "mlops-environment-prod" in names
    assert not any("dev" in name for name in names)


def test_environments_of_one_namespace_share_it() -> None:
    environments = load_environments(ENVIRONMENTS)
    both = {"a": environments["test"], "b": environments["test"]}
    [policy] = [item for item in build_objects(both) if item["metadata"]["name"] == "mlops-namespace-ml-test"][:1]
    assert policy["spec"]["validations"][0]["expression"].endswith('in ["a", "b"]')


def test_rules_are_named_and_only_those_that_apply(objects: dict[tuple[str, str], Any]) -> None:
    def rules(environment: str) -> set[str]:
        validations = objects["Policy", f"mlops-environment-{environment}"]["spec"]["validations"]
        return {item["message"].rpartition("[")[2].rstrip("]") for item in validations}

    always = {
        "config_maps",
        "host_namespaces",
        "images",
        "max_cpu",
        "max_gpu",
        "max_partitions",
        "node_selector",
        "priority_class",
        "restricted",
        "runtime_class",
        "secrets",
        "service_account",
        "tolerations",
        "uri_schemes",
        "volumes",
    }
    assert rules("test") == always
    assert rules("prod") == always | {"max_memory", "require_digest"}


def test_hostile_text_stays_a_literal() -> None:
    settings = load_environments(ENVIRONMENTS)["test"]
    hostile = settings.model_copy(update={"image": 'x" || true || "', "node_selector": {"a": "\\"}})
    policy = build_objects({"x": hostile})[2]
    expressions = [item["expression"] for item in policy["spec"]["validations"]]
    assert any('c.image == "x\\" || true || \\""' in text for text in expressions)
    assert any('{"a": "\\\\"}' in text for text in expressions)


def test_command_prints_what_kubectl_applies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admission-policy", "--environments", str(ENVIRONMENTS)]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == build_objects(load_environments(ENVIRONMENTS))
    assert main(["admission-policy", "--environments", str(ENVIRONMENTS), "--output", "json"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["items"] == printed


def test_unusable_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admission-policy", "--environments", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err
