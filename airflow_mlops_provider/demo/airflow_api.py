"""The few calls of Airflow's REST API that the demonstration and the tests make. Synchronous I/O with ``httpx``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from airflow_mlops_provider.demo.process import DemoError, Progress, silent, wait_until

FINAL_STATES = ("success", "failed")
_TIMEOUT = httpx.Timeout(30)  # the API server of a busy two-core machine

Json = dict[str, Any]
"""One JSON object as the API sent it; its shape is Airflow's."""


class AirflowApi:
    """Airflow as its users see it; log-in is that of the simple auth manager with all users admins.

    :param check_alive: called while waiting; raises if waiting has become pointless.
    """

    def __init__(self, url: str, *, progress: Progress = silent, check_alive: Callable[[], None] | None = None) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=_TIMEOUT)
        self._progress = progress
        self._check_alive = check_alive or (lambda: None)

    def close(self) -> None:
        self._client.close()

    def request(self, method: str, path: str, *, missing_ok: bool = False, **kwargs: Any) -> Any:
        """Call ``/api/v2/<path>`` and return the decoded answer; ``None`` for a 404 that is allowed.

        :raises DemoError: Airflow refused.
        """
        if "Authorization" not in self._client.headers:
            token = self._client.get("/auth/token").raise_for_status().json()["access_token"]
            self._client.headers["Authorization"] = f"Bearer {token}"
        answer = self._client.request(method, f"/api/v2/{path}", **kwargs)
        if missing_ok and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise DemoError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def is_healthy(self) -> bool:
        """Tell whether every component has reported."""
        try:
            parts = self._client.get("/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return False
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((parts.get(name) or {}).get("status") == "healthy" for name in names)

    def wait_for_dag(self, dag_id: str, *, timeout_seconds: float = 120) -> Json:
        """Return the DAG as soon as it is visible.

        :raises DemoError: it does not appear; the message has the import errors.
        """
        what = f"DAG {dag_id}"
        try:
            return self._wait(
                lambda: self.request("GET", f"dags/{dag_id}", missing_ok=True), what, timeout_seconds=timeout_seconds
            )
        except DemoError as error:
            errors = "\n".join(f"{item['filename']}: {item['stack_trace']}" for item in self.import_errors())
            raise DemoError(f"{error}\n{errors}".strip(), log=error.log, tail=error.tail) from error

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None, logical_date: str | None = None) -> str:
        """Unpause the DAG, start a run, and return the run's ID."""
        self.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})
        body = {"logical_date": logical_date, "conf": dict(conf or {})}
        return str(self.request("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> Json:
        return dict(self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}"))

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout_seconds: float = 300) -> Json:
        """Return the run once it has succeeded or failed; look at its ``state``."""

        def finished() -> Json | None:
            run = self.run(dag_id, run_id)
            return run if run["state"] in FINAL_STATES else None

        return self._wait(finished, f"run of {dag_id}", timeout_seconds=timeout_seconds)

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        return list(self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return a value a task pushed, or ``None``."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self.request(
            "GET", path, missing_ok=True, params={"map_index": map_index, "deserialize": False, "stringify": False}
        )
        return None if answer is None else answer["value"]

    def import_errors(self) -> list[Json]:
        return list(self.request("GET", "importErrors")["import_errors"])

    def dag_versions(self, dag_id: str) -> list[Json]:
        return list(self.request("GET", f"dags/{dag_id}/dagVersions")["dag_versions"])

    def logs(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> list[str]:
        """Return the lines of one try of a task."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self.request("GET", path, params={"map_index": map_index}, headers={"Accept": "application/json"})
        return [_log_line(event) for event in answer["content"]]

    def _wait(self, check: Callable[[], Json | None], what: str, *, timeout_seconds: float) -> Json:
        def alive_and_done() -> Json | None:
            self._check_alive()
            return check()

        started = time.monotonic()
        found = wait_until(alive_and_done, what, timeout_seconds, progress=self._progress, poll_seconds=0.5)
        self._progress(f"{what} ({time.monotonic() - started:.1f} s)")
        if found is None:  # pragma: no cover - wait_until returns only what is true
            raise DemoError(what)
        return found


def _log_line(event: Any) -> str:
    if not isinstance(event, Mapping):
        return str(event)
    causes = [f"{cause.get('exc_type')}: {cause.get('exc_value')}" for cause in event.get("error_detail") or ()]
    return " | ".join([str(event.get("event", "")), *causes])
