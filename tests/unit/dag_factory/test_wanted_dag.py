"""A worker asks for one DAG: it gets that one, and pays for that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

from airflow_mlops_provider import load_model_dags
from airflow_mlops_provider.dag_factory import loader

ENVIRONMENTS = """
apiVersion: mlops/v1
environments:
  dev: {runner: local, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}
"""
DECLARATION = """
apiVersion: mlops/v1
model: NAME
owner: growth
experiment: /churn
batch: {input: "file:///in.csv", output: "file:///out.csv"}
environments: {dev: {}}
"""


@pytest.fixture(autouse=True)
def nothing_is_wanted_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's context manager leaves its variables behind where there were none before."""
    for name in ("DAG_ID", "TASK_ID"):
        monkeypatch.setenv(f"_AIRFLOW_PARSING_CONTEXT_{name}", "")
        monkeypatch.delenv(f"_AIRFLOW_PARSING_CONTEXT_{name}")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS)
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("a", "b", "c", "d"):
        (directory / f"{name}.yaml").write_text(DECLARATION.replace("NAME", f"model-{name}" if name == "d" else name))
    (directory / "broken.yaml").write_text("model: [")
    return directory


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read as declarations."""
    names: list[str] = []
    original = loader.load_declaration

    def load_declaration(path: Path, *args: Any, **kwargs: Any) -> Any:
        names.append(path.name)
        return original(path, *args, **kwargs)

    monkeypatch.setattr(loader, "load_declaration", load_declaration)
    return names


@pytest.mark.parametrize(
    ("dag_id", "files"),
    [
        pytest.param("dev.b.batch", ["b.yaml"], id="called like the model"),
        pytest.param("dev.model-d.batch", ["d.yaml"], id="called otherwise"),
        pytest.param(
            "broken.broken", ["broken.yaml", "a.yaml", "b.yaml", "broken.yaml", "c.yaml", "d.yaml"], id="notice"
        ),
    ],
)
def test_only_what_may_hold_the_wanted_dag_is_read(
    models: Path, read: list[str], dag_id: str, files: list[str]
) -> None:
    with _airflow_parsing_context_manager(dag_id=dag_id, task_id="score"):
        assert set(load_model_dags(models)) == {dag_id}
    assert read == files


def test_a_dag_of_another_file_wants_none_of_these(models: Path) -> None:
    with _airflow_parsing_context_manager(dag_id="elsewhere", task_id="score"):
        assert set(load_model_dags(models)) == {"broken.broken"}


def test_missing_environments_are_told_without_the_checkouts_own_place(models: Path) -> None:
    (models.parent / "environments.yaml").unlink()
    dags = load_model_dags(models)
    assert len(dags) == 5
    for dag in dags.values():
        assert "models/" in (dag.doc_md or "")
        assert str(models) not in (dag.doc_md or "")


def test_one_dag_is_built_of_a_file_that_declares_many(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_mlops_provider.dag_factory import batch

    built: list[str] = []
    original = batch.build_batch_dag

    def build_batch_dag(model: Any, *arguments: Any) -> Any:
        built.append(model.environment)
        return original(model, *arguments)

    monkeypatch.setattr(batch, "build_batch_dag", build_batch_dag)
    names = [f"env-{number}" for number in range(20)]
    settings = "{runner: local, model: {run_tag: {stage: dev}}, allow: {uri_schemes: [file]}}"
    places = "".join(f"  {name}: {settings}\n" for name in names)
    (models.parent / "environments.yaml").write_text(f"apiVersion: mlops/v1\nenvironments:\n{places}")
    everywhere = DECLARATION.replace("NAME", "a").replace("{dev: {}}", f"{{{': {}, '.join(names)}: {{}}}}")
    (models / "a.yaml").write_text(everywhere)
    with _airflow_parsing_context_manager(dag_id="env-7.a.batch", task_id="score"):
        assert set(load_model_dags(models / "a.yaml")) == {"env-7.a.batch"}
    assert built == ["env-7"]
