"""An MLflow tracking server and registry as a process: SQLite, artifacts served by the server. Does I/O."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import httpx

from airflow_mlops_provider.demo.process import (
    ManagedProcess,
    Progress,
    check_port,
    clean_environment,
    free_ports,
    silent,
    wait_until,
)

_LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - only compared with
_START_SECONDS = 180.0  # 12 s on an idle machine; a shared one may be far slower


class MlflowServer:
    """``with MlflowServer(directory) as mlflow: mlflow.url``.

    :param directory: made on entry and removed on exit, with database, artifacts and log.
    :param host: where it listens; pods of the development cluster need the node's address or ``0.0.0.0``.
    :param allowed_hosts: further names or addresses it answers to, as in ``--allowed-hosts``; ``host`` is one of them.
    :param port: a free one is taken without it.
    :param keep: leave the directory.
    """

    def __init__(
        self,
        directory: Path,
        host: str = _LOOPBACK,
        allowed_hosts: Sequence[str] = (),
        *,
        port: int | None = None,
        keep: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.directory, self.keep = directory, keep
        self.port = check_port(port, host) if port else free_ports(1, host)[0]
        everywhere = host in _EVERYWHERE
        self.url = f"http://{_LOOPBACK if everywhere else host}:{self.port}"
        self._progress = progress
        command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", host, "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
        command += ["--serve-artifacts", "--artifacts-destination", str(directory / "artifacts")]
        if allowed_hosts or host != _LOOPBACK:
            names = dict.fromkeys([_LOOPBACK, "localhost", *([] if everywhere else [host]), *allowed_hosts])
            command += ["--allowed-hosts", ",".join(f"{name}{suffix}" for name in names for suffix in ("", ":*"))]
        environment = clean_environment(
            directory, {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        )
        self.process = ManagedProcess("MLflow", command, cwd=directory, env=environment, log=directory / "server.log")

    def begin(self) -> None:
        """Start it without waiting; :meth:`__enter__` does the waiting."""
        if self.process.pid is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.process.start()

    def __enter__(self) -> MlflowServer:
        try:
            self.begin()
            wait_until(self._answers, "MLflow", _START_SECONDS, processes=[self.process], progress=self._progress)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and remove its directory. Safe to call twice."""
        self.process.stop()
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=5).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False
