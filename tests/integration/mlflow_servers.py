"""Real MLflow servers for tests and benchmarks: start, wait, stop, and train tiny models on them.

MLflow 3 comes from the environment of the tests. MLflow 2 and the server with basic authentication get environments of
their own in the cache (``MLOPS_CACHE``), made once with uv and kept. Run as a program it trains, so that another MLflow
version's interpreter can do it, and so that mlflow stays out of the tests' process: one JSON line asks, one answers.
Imports the standard library only; mlflow and scikit-learn inside the functions that train.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_SECONDS = 240
#: The newest of MLflow 2. It does not start with SQLAlchemy 2.1, and its server needs pkg_resources.
MLFLOW_2 = ("mlflow==2.22.5", "sqlalchemy<2.1", "setuptools<81")


@dataclass(frozen=True)
class MLflowServer:
    """A running server. ``artifacts`` is the folder behind ``mlflow-artifacts:/``; ``python`` is its interpreter."""

    url: str
    artifacts: Path
    python: Path
    log: Path


@dataclass(frozen=True)
class TrainedRun:
    """What was logged: model IDs by name (empty strings from an MLflow 2 client)."""

    run_id: str
    experiment_id: str
    models: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def serve(
    folder: Path,
    *,
    python: Path | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[MLflowServer]:
    """Run ``mlflow server`` on a free port until the block ends; its whole process group ends with it."""
    folder.mkdir(parents=True, exist_ok=True)
    python = python or Path(sys.executable)
    port = _free_port()
    server = MLflowServer(f"http://127.0.0.1:{port}", folder / "artifacts", python, folder / "server.log")
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += arguments or ["--serve-artifacts", "--artifacts-destination", str(server.artifacts)]
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=inherited | own, cwd=folder, start_new_session=True
        )
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        _stop(process)


def environment_python(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of a cached environment with these requirements; make it once, under a lock."""
    root = Path(os.environ.get("MLOPS_CACHE") or _default_cache())
    root.mkdir(parents=True, exist_ok=True)
    folder, python = root / name, root / name / "bin" / "python"
    marker = folder / "requirements.json"
    with (root / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.exists() and json.loads(marker.read_text()) == list(requirements):
            return python
        uv = os.environ.get("UV") or shutil.which("uv")
        if not uv:
            raise RuntimeError("uv is needed to install another MLflow; put it on PATH or name it in UV")
        shutil.rmtree(folder, ignore_errors=True)
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
        marker.write_text(json.dumps(list(requirements)))
    return python


def train(
    tracking_uri: str,
    experiment: str,
    *,
    models: Sequence[str] = ("model",),
    tags: Mapping[str, str] | None = None,
    status: str = "FINISHED",
    start_time: int | None = None,
    registered_model: str | None = None,
    git_commit: str = "0123456789abcdef0123456789abcdef01234567",
) -> TrainedRun:
    """Log one run with real scikit-learn models, with whatever MLflow this interpreter has."""
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # or MLflow logs this checkout's lock file, too
    import mlflow
    from mlflow.entities import RunTag

    mlflow.set_tracking_uri(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else client.create_experiment(experiment)
    run = client.create_run(experiment_id, start_time=start_time)
    run_id = run.info.run_id
    is_old = mlflow.__version__.startswith("2.")
    ids: dict[str, str] = {}
    with mlflow.start_run(run_id=run_id):
        for name in models:
            where = {"artifact_path": name} if is_old else {"name": name}
            # Requirements given: guessing them takes MLflow 10 s for each model.
            info = mlflow.sklearn.log_model(
                _classifier(), **where, pip_requirements=["scikit-learn"], registered_model_name=registered_model
            )
            ids[name] = "" if is_old else str(info.model_id)
    every = {"mlflow.source.git.commit": git_commit, **(tags or {})}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in every.items()])
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    else:
        client.update_run(run_id, status)
    return TrainedRun(run_id, experiment_id, ids)


class Trainer:
    """A process that trains: started when first asked, kept because importing MLflow is what takes time."""

    def __init__(self, python: Path | None = None) -> None:
        self._command = [str(python or sys.executable), __file__]
        self._process: subprocess.Popen[str] | None = None

    def train(self, tracking_uri: str, experiment: str, **run: Any) -> TrainedRun:
        """Do the same as :func:`train`, over there. ``credentials=(user, password)`` for a server that wants them."""
        if self._process is None:
            environment = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true"}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"tracking_uri": tracking_uri, "experiment": experiment, **run}), file=self._process.stdin)
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the trainer ended; see its output above"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return TrainedRun(**answer)

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(timeout=30)


_model: Any = None


def _classifier() -> Any:
    global _model
    if _model is None:
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        data, target = load_iris(return_X_y=True)
        _model = LogisticRegression(max_iter=200).fit(data, target)
    return _model


def _run(command: Sequence[str], **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-mlops-provider"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: MLflowServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(
        f"MLflow did not become ready at {server.url}:\n{server.log.read_text(errors='replace')[-3000:]}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    process.wait()


def _answer_requests() -> None:
    import traceback
    from dataclasses import asdict

    answers = os.fdopen(os.dup(1), "w")  # mlflow prints to standard output
    os.dup2(2, 1)
    for line in sys.stdin:
        spec = json.loads(line)
        user, password = spec.pop("credentials", None) or ("", "")
        os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)
        try:
            answer = asdict(train(**spec))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _answer_requests()
