"""The same rules on a real MLflow 2 server, which knows no logged models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel
from airflow_mlops_provider.exceptions import AmbiguousModelError, ModelChangedError, ModelNotFoundError
from airflow_mlops_provider.hooks.mlflow_api import check_server
from airflow_mlops_provider.hooks.mlflow_client import MLflowClient, resolve_model
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def runs(mlflow2_server: Any, train_model_with_mlflow2: Callable[..., Any]) -> dict[str, Any]:
    specs: dict[str, dict[str, Any]] = {
        "prod": {"experiment": "Отток", "tags": {"stage": "prod"}},
        "dev": {"experiment": "Отток", "tags": {"stage": "dev"}, "models": ["a", "b"]},
        "failed": {"experiment": "failed", "tags": {"stage": "prod"}, "status": "FAILED"},
        "lost": {"experiment": "lost", "tags": {"stage": "prod"}},
        "never seen": {"experiment": "never seen", "tags": {"stage": "prod"}},
        "registered": {"experiment": "registry", "registered_model": "churn"},
    }
    return {name: train_model_with_mlflow2(mlflow2_server.url, **spec) for name, spec in specs.items()}


@pytest.fixture
def settings(mlflow2_server: Any) -> MLflowSettings:
    return MLflowSettings(tracking_uri=mlflow2_server.url, timeout_seconds=30, total_seconds=60)


@pytest.fixture
def resolve(settings: MLflowSettings) -> Callable[..., ResolvedModel]:
    return lambda **way: resolve_model(settings, ModelSelector(**way))


def test_tagged_run(runs: dict[str, Any], resolve: Any, settings: MLflowSettings) -> None:
    found = resolve(experiment="Отток", run_tag={"stage": "prod"})
    assert found.uri == f"runs:/{runs['prod'].run_id}/model"
    assert (found.name, found.model_id) == ("model", None)
    with MLflowClient(settings) as client:
        client.verify_model(found)
        assert client.run(check_server()).startswith("MLflow 2.")


def test_several_models_need_a_name(runs: dict[str, Any], resolve: Any) -> None:
    with pytest.raises(AmbiguousModelError, match="has 2 models: a, b"):
        resolve(experiment="Отток", run_tag={"stage": "dev"})
    found = resolve(experiment="Отток", run_tag={"stage": "dev"}, logged_model="b")
    assert found.uri == f"runs:/{runs['dev'].run_id}/b"
    assert resolve(uri=found.uri).digest == found.digest


def test_failed_run_is_not_enough(runs: dict[str, Any], resolve: Any) -> None:
    with pytest.raises(ModelNotFoundError, match=rf"only {runs['failed'].run_id} \(FAILED\)"):
        resolve(experiment="failed", run_tag={"stage": "prod"})


def test_registered_version(runs: dict[str, Any], resolve: Any) -> None:
    found = resolve(registered_model="churn", version="1")
    assert (found.uri, found.run_id, found.model_id) == ("models:/churn/1", runs["registered"].run_id, None)
    assert found.source_uri.endswith(f"/{runs['registered'].run_id}/artifacts/model/")
    with pytest.raises(ModelNotFoundError, match="alias 'prod' does not exist"):
        resolve(uri="models:/churn@prod")


def test_model_without_its_mlmodel_file(
    mlflow2_server: Any, runs: dict[str, Any], resolve: Any, settings: MLflowSettings
) -> None:
    pinned = resolve(experiment="lost", run_tag={"stage": "prod"})
    for name in ("lost", "never seen"):
        folder = mlflow2_server.artifacts / runs[name].experiment_id / runs[name].run_id / "artifacts"
        (folder / "model" / "MLmodel").unlink()
    with MLflowClient(settings) as client, pytest.raises(ModelChangedError, match="is gone"):
        client.verify_model(pinned)
    with pytest.raises(ModelNotFoundError, match="has no MLmodel file"):
        resolve(experiment="never seen", run_tag={"stage": "prod"})


def test_model_id_is_explained(runs: dict[str, Any], resolve: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="an MLflow 2 server has no such models"):
        resolve(uri="models:/m-" + "0" * 32)
