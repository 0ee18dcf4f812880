"""Fixtures for tests that need real MLflow servers. One of each kind per session, started when first asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
import mlflow_servers
from mlflow_servers import MLflowServer, TrainedRun

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


@pytest.fixture(scope="session")
def mlflow3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """An MLflow 3 server on SQLite that serves its artifacts; ``.url`` is its tracking URI."""
    with mlflow_servers.serve(tmp_path_factory.mktemp("mlflow3")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow2_python() -> Path:
    """The interpreter of an environment with MLflow 2."""
    return mlflow_servers.environment_python("mlflow-2.22.5", mlflow_servers.MLFLOW_2)


@pytest.fixture(scope="session")
def mlflow2_server(tmp_path_factory: pytest.TempPathFactory, mlflow2_python: Path) -> Iterator[MLflowServer]:
    """An MLflow 2 server."""
    with mlflow_servers.serve(tmp_path_factory.mktemp("mlflow2"), python=mlflow2_python) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_auth_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    """An MLflow 3 server with basic authentication: ``admin`` / ``admin-password-1``; others may read nothing."""
    installed = version("mlflow")
    python = mlflow_servers.environment_python(f"mlflow-auth-{installed}", [f"mlflow[auth]=={installed}"])
    folder = tmp_path_factory.mktemp("mlflow-auth")
    config = folder / "basic_auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = admin\nadmin_password = admin-password-1\n"
        f"database_uri = sqlite:///{folder}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "for-tests-only"}
    arguments = ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts"), "--app-name", "basic-auth"]
    with mlflow_servers.serve(folder, python=python, arguments=arguments, environment=environment) as server:
        yield server


@pytest.fixture(scope="session")
def train_model() -> Iterator[Callable[..., TrainedRun]]:
    """Log a run with a real scikit-learn model: ``train_model(server.url, "churn", tags={"stage": "prod"})``.

    See ``mlflow_servers.train`` for what else a run may have.
    """
    trainer = mlflow_servers.Trainer()
    yield trainer.train
    trainer.close()


@pytest.fixture(scope="session")
def train_model_with_mlflow2(mlflow2_python: Path) -> Iterator[Callable[..., TrainedRun]]:
    """The same with an MLflow 2 client."""
    trainer = mlflow_servers.Trainer(mlflow2_python)
    yield trainer.train
    trainer.close()
