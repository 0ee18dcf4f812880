"""Run the server: find the model, load it, and only then listen, so that whoever gets a connection gets an answer.

One process by default. With several, the first one fetches the model and watches over workers that load it each for
themselves: a loaded model neither forks nor pickles safely. Does all the I/O there is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_runtime.cleanup import on_exit, release_signals
from mlops_runtime.errors import ModelError, RuntimeProblem, redact
from mlops_runtime.model import download_model, local_model_path, quick_imports, set_mlflow_defaults
from mlops_runtime.serving.logs import configure_logging, log
from mlops_runtime.serving.settings import ServeSettings

if TYPE_CHECKING:
    from starlette.applications import Starlette

_WORKER_VARIABLE = "_MLOPS_SERVE_SETTINGS"
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_STARTUP_FAILURE = 3  # uvicorn's word for: this worker will never start, do not try again
_KEEP_ALIVE_SECONDS = 65  # longer than the idle time of usual proxies, or they meet closed connections
_WORKER_SILENCE_SECONDS = 15  # after which its supervisor takes a worker for dead; imports may hold it up for seconds
_FAILURE_FILE = "failure.txt"


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM, then return when the last request is answered.

    :raises RuntimeProblem: there is no such model, it does not load, or the port is taken.
    """
    configure_logging()
    set_mlflow_defaults(settings.tracking_uri)
    with model_directory(settings) as directory:
        if settings.workers == 1:
            _serve_here(settings, directory)
        else:
            _supervise(settings, directory)
    log("stopped")


@contextlib.contextmanager
def model_directory(settings: ServeSettings) -> Iterator[Path]:
    """Give the directory of the model: the mounted one if there is a model in it, else the fetched one.

    :raises ModelError: neither a mounted model nor a URI.
    """
    mounted = Path(settings.model_dir)
    local = local_model_path(settings.model_uri) if settings.model_uri else None
    if (mounted / "MLmodel").is_file():
        yield mounted
    elif local is not None:
        yield local
    elif settings.model_uri:
        scratch = Path(tempfile.mkdtemp(prefix="mlops-model-"))
        with on_exit(lambda: shutil.rmtree(scratch, ignore_errors=True)):
            log("fetching", model_uri=redact(settings.model_uri))
            yield download_model(settings.model_uri, scratch)
    else:
        raise ModelError(
            f"{mounted}: no MLmodel there, and MODEL_URI is not set; mount a model (KServe: storageUri), or pass "
            "--model-dir or --model-uri"
        )


def load_app(settings: ServeSettings, directory: Path) -> Starlette:
    """Load and warm the model, and build the application around it."""
    with quick_imports():
        from mlops_runtime.serving import sdk  # noqa: F401  # first of all that imports kserve
        from mlops_runtime.serving.app import build_app
        from mlops_runtime.serving.lifecycle import Lifecycle
        from mlops_runtime.serving.model import open_model
    return build_app(open_model(settings, directory), Lifecycle(settings.drain_seconds))


def _configure(settings: ServeSettings, app: Any, **more: Any) -> Any:
    import uvicorn

    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.grace_seconds,
        timeout_worker_healthcheck=_WORKER_SILENCE_SECONDS,
        **more,
    )


def _serve_here(settings: ServeSettings, directory: Path) -> None:
    import uvicorn

    app = load_app(settings, directory)
    release_signals()
    uvicorn.Server(_configure(settings, app)).run()


def _supervise(settings: ServeSettings, directory: Path) -> None:
    from dataclasses import replace

    from uvicorn.supervisors import Multiprocess

    with tempfile.TemporaryDirectory(prefix="mlops-metrics-") as shared:
        os.environ[_METRICS_VARIABLE] = shared
        os.environ[_WORKER_VARIABLE] = replace(settings, model_dir=str(directory)).to_json()
        config = _configure(
            settings, "mlops_runtime.serving.server:create_worker_app", factory=True, workers=settings.workers
        )
        release_signals()
        workers = Multiprocess(config, [config.bind_socket()])
        workers.run()
        if any(worker.exitcode == _STARTUP_FAILURE for worker in workers.processes):
            raise ModelError((Path(shared) / _FAILURE_FILE).read_text(encoding="utf-8"))


def create_worker_app() -> Starlette:
    """Build the application in a worker; what goes wrong here would go wrong in every worker, again and again."""
    configure_logging()
    settings = ServeSettings.from_json(os.environ[_WORKER_VARIABLE])
    try:
        return load_app(settings, Path(settings.model_dir))
    except RuntimeProblem as problem:
        # Renamed, because every worker writes it, and the first process reads it when the first of them has ended.
        mine = Path(os.environ[_METRICS_VARIABLE]) / f"{_FAILURE_FILE}.{os.getpid()}"
        mine.write_text(str(problem), encoding="utf-8")
        mine.rename(mine.with_name(_FAILURE_FILE))
        sys.exit(_STARTUP_FAILURE)
