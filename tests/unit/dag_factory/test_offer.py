"""Which of a declaration's environments a call of the factory builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.exceptions import PolicyError

ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev: {runner: local, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}
  prod: {runner: local, model: {run_tag: {stage: prod}}, allow: {uri_schemes: [file]}}
  pre: {runner: local, ephemeral: true, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}
  try: {runner: local, ephemeral: true, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}
"""
DECLARATION = """
apiVersion: mlops/v1
model: churn
owner: growth
experiment: /churn
batch: {input: "file:///in.csv", output: "file:///out.csv"}
environments: {dev: {}, prod: {}, pre: {}, try: {}}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    (tmp_path / "models/churn.yaml").write_text(DECLARATION)
    return tmp_path


@pytest.mark.parametrize(
    ("offer", "environments"),
    [
        ({}, ["dev", "prod"]),
        ({"allowed": ["prod", "pre"]}, ["prod"]),
        ({"preview": True}, ["pre", "try"]),
        ({"preview": True, "allowed": ("prod", "try")}, ["try"]),
    ],
)
@pytest.mark.parametrize("place", ["models/churn.yaml", "models"])
def test_only_what_is_offered_is_built(
    repository: Path, offer: dict[str, Any], environments: list[str], place: str
) -> None:
    dags = load_model_dags(repository / place, environments=repository / "environments.yaml", **offer)
    assert list(dags) == [f"{name}.churn.batch" for name in environments]


@pytest.mark.parametrize(
    ("declared", "offer", "message"),
    [
        ("pre: {}", {}, "this bundle cannot obtain 'pre'; add dev: {} or prod: {}"),
        ("dev: {}, pre: {}", {"allowed": ["prod"]}, "this bundle cannot obtain 'dev' and 'pre'; add prod: {}"),
        ("prod: {}", {"preview": True}, "a preview cannot obtain 'prod'; add pre: {} or try: {}"),
        ("prod: {}", {"preview": True, "allowed": []}, "a preview cannot obtain 'prod'; the platform offers none"),
    ],
)
def test_a_file_of_which_nothing_is_offered_is_refused(
    repository: Path, declared: str, offer: dict[str, Any], message: str
) -> None:
    file = repository / "models/churn.yaml"
    file.write_text(DECLARATION.replace("dev: {}, prod: {}, pre: {}, try: {}", declared))
    with pytest.raises(PolicyError) as caught:
        load_model_dags(file, environments=repository / "environments.yaml", **offer)
    assert str(caught.value) == f"models/churn.yaml:3:1: environments: {message} [environment]"
