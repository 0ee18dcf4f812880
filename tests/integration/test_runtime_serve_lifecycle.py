"""How the model server begins and ends: ready when warm, not before; no request lost on SIGTERM; workers; failures."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlops_runtime.model import digest_of
from runtime_server import Answer, RuntimeServer

pytestmark = pytest.mark.integration

#: Each prediction takes as long as its row says; the first one as long as the environment says.
_SLEEPER = """
import os, time
import mlflow

if os.environ.get("TEST_BREAK") == "load":
    raise ModuleNotFoundError("No module named 'heavy_library'")

class Sleeper(mlflow.pyfunc.PythonModel):
    warm = False

    def predict(self, context, model_input, params=None):
        if not self.warm:
            time.sleep(float(os.environ.get("TEST_FIRST_SECONDS", "0")))
            if os.environ.get("TEST_BREAK") == "predict":
                raise ValueError("this model never works")
            self.warm = True
        time.sleep(model_input["seconds"].max())
        return [os.getpid()] * len(model_input)

mlflow.models.set_model(Sleeper())
"""
_PATH = "/v1/models/model:predict"


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a directory, as the storage initializer leaves it."""
    from mlflow.models import infer_signature

    folder = tmp_path_factory.mktemp("sleeper")
    (folder / "sleeper.py").write_text(_SLEEPER)
    example = pd.DataFrame({"seconds": [0.0]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_UV_AUTO_DETECT", "false")  # or MLflow saves this checkout's lock file, too
        mlflow.pyfunc.save_model(
            folder / "model", python_model=str(folder / "sleeper.py"), signature=infer_signature(example),
            input_example=example, pip_requirements=["mlflow"],
        )  # fmt: skip
    return folder / "model"


def _body(seconds: float) -> dict[str, Any]:
    return {"instances": [{"seconds": seconds}]}


def test_ready_only_after_the_first_prediction(sleeper: Path, tmp_path: Path) -> None:
    server = RuntimeServer(tmp_path, "--model-dir", str(sleeper), environment={"TEST_FIRST_SECONDS": "2"})
    with server:
        (ready,) = server.lines("ready")
        assert ready["warm_rows"] == 1
        assert ready["warm_seconds"] >= 2
        assert server.post(_PATH, _body(0)).json["predictions"]
        assert server.lines().index(ready) < server.lines().index(server.lines("request")[0])
        assert server.stop() == 0
    assert server.lines()[-1]["event"] == "stopped"


class Client(threading.Thread):
    """Asks until it is told that the server is no longer ready, as a load balancer would tell it a moment later."""

    def __init__(self, server: RuntimeServer, stop: threading.Event) -> None:
        super().__init__()
        self._server, self._told = server, stop
        self.answers: list[Answer | OSError] = []

    def run(self) -> None:
        while not self._told.is_set():
            try:
                self.answers.append(self._server.post(_PATH, _body(0.05)))
            except OSError as problem:
                self.answers.append(problem)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_loses_no_request(sleeper: Path, tmp_path: Path, workers: int) -> None:
    arguments = ["--model-dir", str(sleeper), "--workers", str(workers), "--threads", "8", "--drain-seconds", "2"]
    with RuntimeServer(tmp_path, *arguments) as server:
        served = {server.post(_PATH, _body(0.1)).json["predictions"][0] for _ in range(10 * workers)}
        assert len(served) <= workers
        assert server.process.pid not in served or workers == 1
        stop = threading.Event()
        clients = [Client(server, stop) for _ in range(4)]
        long: list[Answer] = []
        for client in clients:
            client.start()
        time.sleep(0.3)
        slow = threading.Thread(target=lambda: long.append(server.post(_PATH, _body(5))))
        slow.start()
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while server.is_ready() and time.monotonic() < deadline:
            time.sleep(0.02)
        ready = server.get("/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False})
        late = server.post(_PATH, _body(0))  # from a client that has not heard of it yet
        assert (late.status, late.headers["connection"]) == (200, "close")
        time.sleep(0.5)  # word gets around
        stop.set()
        for thread in [*clients, slow]:
            thread.join()
        assert server.process.wait(30) == 0
    assert [answer.status for answer in long] == [200]
    answers = [answer for client in clients for answer in client.answers]
    assert len(answers) > 20
    assert [answer for answer in answers if not isinstance(answer, Answer) or answer.status != 200] == []


def test_workers_share_their_numbers(sleeper: Path, tmp_path: Path) -> None:
    with RuntimeServer(tmp_path, "--model-dir", str(sleeper), "--workers", "2", "--drain-seconds", "0") as server:
        for _ in range(12):
            assert server.post(_PATH, _body(0)).status == 200
        text = server.get("/metrics").body.decode()
        assert 'mlops_requests_total{code="200",model="model",protocol="v1"} 12.0' in text
        assert f'digest="{digest_of(sleeper)}"' in text


def _ended(server: RuntimeServer) -> tuple[int, str]:
    code = server.process.wait(120)
    return code, server.termination.read_text()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("load", ["does not load", "No module named 'heavy_library'", "requirements.txt"]),
        ("predict", ["fails on its own input example", "ValueError: this model never works"]),
    ],
)
def test_model_that_cannot_serve_ends_with_its_reason(
    sleeper: Path, tmp_path: Path, broken: str, words: list[str]
) -> None:
    server = RuntimeServer(tmp_path, "--model-dir", str(sleeper), environment={"TEST_BREAK": broken})
    code, last = _ended(server)
    assert code == 1
    assert [word for word in words if word not in last] == [], last
    assert last in server.log.read_text()


def test_workers_that_cannot_load_end_the_server(sleeper: Path, tmp_path: Path) -> None:
    environment = {"TEST_BREAK": "load"}
    server = RuntimeServer(tmp_path, "--model-dir", str(sleeper), "--workers", "2", environment=environment)
    code, last = _ended(server)
    assert code == 1
    assert "heavy_library" in last


def test_another_model_than_was_pinned_is_not_served(sleeper: Path, tmp_path: Path) -> None:
    wrong = f"sha256:{'0' * 64}"
    server = RuntimeServer(tmp_path, "--model-dir", str(sleeper), environment={"MODEL_DIGEST": wrong})
    code, last = _ended(server)
    assert code == 1
    assert "ModelDigestError" in last
    assert digest_of(sleeper) in last


def test_no_model_at_all(tmp_path: Path) -> None:
    server = RuntimeServer(tmp_path, "--model-dir", str(tmp_path / "empty"))
    code, last = _ended(server)
    assert code == 1
    assert "no MLmodel there, and MODEL_URI is not set" in last
