"""The examples as they lie in the repository: valid to the command line, and DAGs to the factory."""

from __future__ import annotations

from pathlib import Path

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "example_dags"


def test_examples_are_valid() -> None:
    environments = str(EXAMPLES / "environments.yaml")
    assert main(["validate", str(EXAMPLES), "--environments", environments]) == 0


def test_stub_builds_every_declared_dag() -> None:
    module = {"__file__": str(EXAMPLES / "tagged_models.py")}
    dags = load_model_dags("models", environments="environments.yaml", globals=module)
    assert set(dags) == {
        "dev.tumours.batch",
        "prod.tumours.batch",
        "prod.tumours-parts.batch",
        "prod.tumours-live.online",
        "prod.tumours-live.probe",
    }
