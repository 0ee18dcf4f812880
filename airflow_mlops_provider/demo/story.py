"""The main job, told from beginning to end on real parts: train, tag, declare, run, compare.

Decides the order of the steps and what is shown. The servers, the training and the comparison are its neighbours'. Does
I/O; whatever it starts and writes is ended and removed when it leaves, however it leaves.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops_provider.demo import declarations
from airflow_mlops_provider.demo.airflow_server import AirflowServer, git_bundle
from airflow_mlops_provider.demo.display import Display
from airflow_mlops_provider.demo.mlflow_server import MlflowServer
from airflow_mlops_provider.demo.outcome import read_outcome
from airflow_mlops_provider.demo.place import Place, on_the_cluster, on_this_machine
from airflow_mlops_provider.demo.process import DemoError, ManagedProcess, check_port, clean_environment
from airflow_mlops_provider.demo.repository import BareRepository
from airflow_mlops_provider.demo.train import RESULT_FILE

_TRAIN_SECONDS = 240.0
_RUN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run the demonstration.

    :param airflow_port: a free one is taken without it; the same for MLflow's.
    :param cluster: run the job as a pod of the development cluster instead of a process of the worker.
    :param keep: leave the directory with databases and logs.
    """

    airflow_port: int | None = None
    mlflow_port: int | None = None
    cluster: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where this telling of the story takes place."""

    directory: Path
    place: Place
    display: Display
    repository: BareRepository
    mlflow: MlflowServer
    airflow: AirflowServer

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def predictions(self) -> Path:
        return self.data / "predictions.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is left to look at while the servers are up.

    :param pages: what it is → URL or path.
    """

    stage: Stage
    pages: Mapping[str, str]

    def check_servers(self) -> None:
        """:raises DemoError: one of them has ended."""
        self.stage.airflow.check_components()
        self.stage.mlflow.process.check()


@contextmanager
def demonstrate(
    settings: Settings, display: Display, out: Callable[[str], None], leaving: Callable[[], None]
) -> Iterator[Ending]:
    """Run the main job, show its result, and leave the servers up until the block ends.

    :param out: called with each part of the result.
    :param leaving: called before anything is ended, however the block ends.
    :raises DemoError: something did not start, or the result is not right.
    """
    for port in (settings.airflow_port, settings.mlflow_port):
        if port is not None:
            check_port(port)
    with ExitStack() as stack:
        try:
            stage = _set_up(settings, display, stack)
            commit = _declare(stage)
            training = _start(stage, stack, commit)
            run_id = _apply(stage)
            yield _show(stage, training, run_id, out)
        finally:
            leaving()


def _set_up(settings: Settings, display: Display, stack: ExitStack) -> Stage:
    directory = Path(tempfile.mkdtemp(prefix="airflow-mlops-demo-"))
    stack.callback(_tidy, directory, display, keep=settings.keep)
    data = directory / "data"
    data.mkdir()
    place = stack.enter_context(on_the_cluster(data, display) if settings.cluster else on_this_machine(data))
    repository = BareRepository(directory / "git")
    mlflow = MlflowServer(
        directory / "mlflow",
        place.mlflow_host,
        port=settings.mlflow_port,
        keep=settings.keep,
        progress=display.progress,
    )
    airflow = AirflowServer(
        directory / "airflow",
        [git_bundle(repository.url)],
        {declarations.MLFLOW_CONNECTION: {"conn_type": "mlflow", "host": mlflow.url}, **place.connections},
        port=settings.airflow_port,
        parallelism=2,
        keep=settings.keep,
        progress=display.progress,
    )
    return Stage(
        directory=directory, place=place, display=display, repository=repository, mlflow=mlflow, airflow=airflow
    )


def _declare(stage: Stage) -> str:
    uri = stage.place.data_uri
    declaration = declarations.write_declaration(f"{uri}/input.parquet", f"{uri}/{stage.predictions.name}")
    files = {
        "environments.yaml": stage.place.environments,
        f"models/{declarations.MODEL}.yaml": declaration,
    }
    with stage.display.step("A Git repository with one YAML per model, and no Python"):
        commit = stage.repository.commit_and_push(files, "Declare the tumours model")
    stage.display.say("".join(f"         │ {line}\n" for line in declaration.splitlines()).rstrip("\n"))
    return commit


def _start(stage: Stage, stack: ExitStack, commit: str) -> dict[str, object]:
    """Start both servers at once, because Airflow takes longest, and train a model meanwhile."""
    stack.callback(stage.airflow.stop)
    stage.airflow.begin()
    with stage.display.step("MLflow starts", f"MLflow answers at {stage.mlflow.url}"):
        stack.callback(stage.mlflow.stop)
        stage.mlflow.begin()
        stage.airflow.launch()
        stack.enter_context(stage.mlflow)
    trainer = _trainer(stage, commit)
    stack.callback(trainer.stop)
    trainer.start()
    with stage.display.step("A model is trained and its run tagged stage=prod"):
        trainer.finish(timeout_seconds=_TRAIN_SECONDS, progress=stage.display.progress)
    with stage.display.step("Airflow starts", f"Airflow answers at {stage.airflow.url}"):
        stack.enter_context(stage.airflow)
    training: dict[str, object] = json.loads((stage.data / RESULT_FILE).read_text())
    return training


def _trainer(stage: Stage, commit: str) -> ManagedProcess:
    command = [sys.executable, "-P", "-m", "airflow_mlops_provider.demo.train", "--tracking-uri", stage.mlflow.url]
    command += ["--directory", str(stage.data), "--commit", commit, "--repository", stage.repository.url]
    environment = clean_environment(stage.directory, {"MLFLOW_DISABLE_TELEMETRY": "true"})
    log = stage.directory / "training.log"
    return ManagedProcess("the training", command, cwd=stage.data, env=environment, log=log)


def _apply(stage: Stage) -> str:
    airflow, dag_id = stage.airflow, declarations.DAG_ID
    with stage.display.step("The DAG appears from Git", f"The DAG {dag_id} has appeared from Git"):
        airflow.wait_for_dag(dag_id)
    with stage.display.step("The DAG runs: find the tagged model, pin it, score the held-back rows"):
        run_id = airflow.trigger(dag_id)
        run = airflow.wait_for_run(dag_id, run_id, timeout_seconds=_RUN_SECONDS)
        if run["state"] != "success":
            lines = airflow.logs(dag_id, run_id, declarations.TASK_ID)
            raise DemoError(f"the run {run_id} is {run['state']}", log=airflow.directory / "logs", tail=lines[-15:])
    return run_id


def _show(stage: Stage, training: dict[str, object], run_id: str, out: Callable[[str], None]) -> Ending:
    dag_id = declarations.DAG_ID
    outcome = read_outcome(stage.data, stage.predictions, float(str(training["accuracy"])))
    outcome.check()
    model = stage.airflow.xcom(dag_id, run_id, declarations.TASK_ID, key="resolved_model")
    if model["run_id"] != training["run_id"]:
        raise DemoError(f"the job used the model of run {model['run_id']}, not {training['run_id']}, which is tagged")
    out(f"\n{len(outcome.predictions)} held-back tumours were scored; some of them:\n\n{outcome.shown()}\n")
    facts = {
        "accuracy": f"{outcome.accuracy:.4f} against the held-back labels; the same as the model in process",
        "model": model["uri"],
        "MLflow run": f"{model['run_id']} (tagged stage=prod)",
        "Git commit": model["git_commit"],
        "DAG run": f"{run_id}, in {stage.place.title}",
    }
    out(list_facts(facts))
    pages = {
        "Airflow": f"{stage.airflow.url}/dags/{dag_id}/runs/{run_id}",
        "MLflow": model["run_url"],
        "Models": f"{stage.mlflow.url}/#/models",
        "Predictions": str(stage.predictions),
    }
    return Ending(stage=stage, pages=pages)


def list_facts(facts: Mapping[str, str]) -> str:
    """Lay out names and values."""
    return "\n".join(f"  {name:<12}{value}" for name, value in facts.items())


def _tidy(directory: Path, display: Display, *, keep: bool) -> None:
    if keep:
        display.say(f"Kept: {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
