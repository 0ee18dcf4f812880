"""A real Airflow as processes: API server, scheduler with LocalExecutor, DAG processor, triggerer, on SQLite.

Decides the configuration, wholly through variables, so that neither the user's ``~/airflow`` nor their connections are
read. The components start at the same time, which halves the time of ``airflow standalone``. Does I/O.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_mlops_provider.demo.airflow_api import AirflowApi
from airflow_mlops_provider.demo.process import (
    ManagedProcess,
    Progress,
    check_port,
    clean_environment,
    free_ports,
    silent,
    stop_all,
    wait_until,
)

# Logs are read from the files: their servers would listen on every address of the machine.
COMPONENTS = (
    ("api-server",),
    ("scheduler", "--skip-serve-logs"),
    ("dag-processor",),
    ("triggerer", "--skip-serve-logs"),
)
REFRESH_SECONDS = 5
_START_SECONDS = 300.0  # 25 s on an idle two-core machine; a shared one may be far slower


def git_bundle(repo_url: str, *, name: str = "models", tracking_ref: str = "main", **kwargs: Any) -> dict[str, Any]:
    """Return the entry of ``dag_bundle_config_list`` for a repository of declarations."""
    return {
        "name": name,
        "classpath": "airflow_mlops_provider.bundles.git.ModelGitDagBundle",
        "kwargs": {
            "repo_url": repo_url,
            "tracking_ref": tracking_ref,
            "refresh_interval": REFRESH_SECONDS,
            **kwargs,
        },
    }


class AirflowServer(AirflowApi):
    """``with AirflowServer(directory, bundles=[git_bundle(url)]) as airflow: airflow.trigger(…)``.

    :param directory: made on entry and removed on exit: ``AIRFLOW_HOME``, database, checkouts and logs.
    :param bundles: entries of ``[dag_processor] dag_bundle_config_list``.
    :param connections: connection ID → its JSON, ``{"mlflow_prod": {"conn_type": "mlflow", "host": …}}``.
    :param env: further variables, ``AIRFLOW__…`` among them; they win.
    :param parallelism: how many tasks run at once.
    :param keep: leave the directory.
    """

    def __init__(
        self,
        directory: Path,
        bundles: Sequence[Mapping[str, Any]],
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        parallelism: int = 4,
        keep: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.directory, self.keep = directory, keep
        self.port = check_port(port) if port else free_ports(1)[0]
        super().__init__(f"http://127.0.0.1:{self.port}", progress=progress, check_alive=self.check_components)
        self.env = {
            **clean_environment(directory),
            **_configuration(directory, self.port, parallelism),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([dict(bundle) for bundle in bundles]),
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(dict(value)) for name, value in (connections or {}).items()},
            **(env or {}),
        }
        self.migration = self._process("Airflow's database migration", "db", "migrate")
        self.components = [self._process(f"Airflow's {command[0]}", *command) for command in COMPONENTS]

    def begin(self) -> None:
        """Start making the database without waiting; :meth:`__enter__` does the rest."""
        if self.migration.pid is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.migration.start()

    def launch(self) -> None:
        """Wait for the database and start the components, without waiting for them."""
        self.begin()
        self.migration.finish(timeout_seconds=_START_SECONDS, progress=self._progress)
        for component in self.components:
            if component.pid is None:
                component.start()

    def __enter__(self) -> AirflowServer:
        try:
            self.launch()
            wait_until(self.is_healthy, "Airflow", _START_SECONDS, processes=self.components, progress=self._progress)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all components and remove the directory. Safe to call twice."""
        self.close()
        stop_all([*self.components, self.migration])
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _process(self, name: str, *arguments: str) -> ManagedProcess:
        log = self.directory / "components" / f"{arguments[0]}.log"
        command = [sys.executable, "-P", "-m", "airflow", *arguments]
        return ManagedProcess(name, command, cwd=self.directory, env=self.env, log=log)

    def check_components(self) -> None:
        """:raises DemoError: one of them has ended."""
        for component in self.components:
            component.check()


def _configuration(directory: Path, port: int, parallelism: int) -> dict[str, str]:
    options = {
        "core.load_examples": False,
        "core.executor": "LocalExecutor",
        "core.parallelism": parallelism,
        "core.fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "core.simple_auth_manager_all_admins": True,
        "core.execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
        "database.sql_alchemy_conn": f"sqlite:///{directory}/airflow.db",
        "database.load_default_connections": False,
        "api.host": "127.0.0.1",
        "api.port": port,
        "api.base_url": f"http://127.0.0.1:{port}",
        "api.workers": 1,
        "api.secret_key": secrets.token_hex(32),
        "api_auth.jwt_secret": secrets.token_hex(32),
        "dag_processor.dag_bundle_storage_path": directory / "bundles",
        "dag_processor.bundle_refresh_check_interval": 1,
        "dag_processor.min_file_process_interval": 10,
        "dag_processor.refresh_interval": REFRESH_SECONDS,
        "usage_data_collection.enabled": False,
    }
    variables = {f"AIRFLOW__{name.replace('.', '__', 1).upper()}": str(value) for name, value in options.items()}
    # Without it the Git hook asks the database for the connection, and logs that there is none.
    return {"AIRFLOW_HOME": str(directory), "AIRFLOW_CONN_GIT_DEFAULT": '{"conn_type": "git"}', **variables}
