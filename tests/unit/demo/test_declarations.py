"""The demonstration's files are accepted by the same loader as everybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.declaration.loader import load_declaration, load_environments
from airflow_mlops_provider.demo import declarations


@pytest.mark.parametrize(
    ("environments", "runner"),
    [
        (declarations.write_local_environments(), "local"),
        (declarations.write_pod_environments("demo", "mlops.local/model-runtime:dev", "data", "/data"), "kubernetes"),
    ],
)
def test_files_are_valid(tmp_path: Path, environments: str, runner: str) -> None:
    (tmp_path / "environments.yaml").write_text(environments)
    (tmp_path / "tumours.yaml").write_text(
        declarations.write_declaration("file:///data/input.parquet", "file:///data/predictions.csv")
    )
    (model,) = load_declaration(tmp_path / "tumours.yaml", load_environments(tmp_path / "environments.yaml"))
    assert model.dag_ids() == (declarations.DAG_ID,)
    assert model.settings.runner == runner
    assert model.settings.connections.mlflow == declarations.MLFLOW_CONNECTION
