"""`mlops-runtime fetch` as KServe's storage initializer calls it: an `mlflow://` address and a mounted directory.

Runs in this process, because importing mlflow anew costs ten seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow_servers import MLflowServer
from mlops_runtime.main import main
from mlops_runtime.model import digest_of

from airflow_mlops_provider.declaration import ModelSelector
from airflow_mlops_provider.hooks.mlflow_client import resolve_model
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

pytestmark = pytest.mark.integration

_REGISTERED = "отток 100% (gbm)"
_WRONG = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def run(mlflow3_server: MLflowServer) -> Iterator[dict[str, str]]:
    """A model with a registered version whose name needs encoding, and one among the run's own artifacts."""
    import mlflow
    from mlflow.artifacts import download_artifacts
    from sklearn.linear_model import LinearRegression

    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = mlflow3_server.url
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    mlflow.set_experiment("fetching")
    with mlflow.start_run() as active:
        info = mlflow.sklearn.log_model(
            LinearRegression().fit([[0.0], [1.0]], [0, 1]), name="model", pip_requirements=["scikit-learn"],
            registered_model_name=_REGISTERED,
        )  # fmt: skip
        mlflow.log_artifacts(download_artifacts(info.model_uri), "models/own copy")
    yield {"model": str(info.model_uri), "run": active.info.run_id, "url": mlflow3_server.url}
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kubelet mounts: an empty directory, and a file for the last word."""
    (tmp_path / "termination-log").touch()
    monkeypatch.setenv("MLOPS_TERMINATION_LOG", str(tmp_path / "termination-log"))
    monkeypatch.setattr("mlops_runtime.main.prepare_process", lambda: None)  # signal handlers are the test runner's
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def _digest(run: dict[str, str], selector: ModelSelector) -> str:
    """What the provider pins, computed on the other side of the road."""
    return resolve_model(MLflowSettings(tracking_uri=run["url"]), selector).digest


@pytest.mark.parametrize("form", ["logged model", "registered version", "run"])
def test_address_with_the_providers_digest(run: dict[str, str], volume: Path, form: str) -> None:
    uri, selector = {
        "logged model": (run["model"], ModelSelector(uri=run["model"])),
        "registered version": (f"models:/{_REGISTERED}/1", ModelSelector(registered_model=_REGISTERED, version="1")),
        "run": (f"runs:/{run['run']}/models/own copy", ModelSelector(uri=run["model"])),
    }[form]
    digest = _digest(run, selector)
    assert main(["fetch", f"mlflow://{quote(uri, safe=':/')}?digest={digest}", str(volume)]) == 0
    assert digest_of(volume) == digest
    assert {"MLmodel", "requirements.txt"} <= {path.name for path in volume.iterdir()}
    assert [path.name for path in volume.iterdir() if path.name.startswith(".")] == []
    assert main(["fetch", f"mlflow://{quote(uri, safe=':/')}?digest={digest}", str(volume)]) == 0  # a restarted pod


def test_wrong_digest_leaves_nothing_and_says_so(
    run: dict[str, str], volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", f"mlflow://{run['model']}?digest={_WRONG}", str(volume)]) == 1
    last = (volume.parent / "termination-log").read_text()
    assert last == capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(
        f"mlops-runtime: error: model {run['model']}: ModelDigestError: expected {_WRONG}, found sha256:"
    )
    assert list(volume.iterdir()) == []


def test_wrong_digest_is_seen_before_the_weights_are_fetched(
    run: dict[str, str], volume: Path, mlflow3_server: MLflowServer
) -> None:
    fetched = mlflow3_server.log.read_text().count("model.skops")
    assert main(["fetch", f"mlflow://{run['model']}?digest={_WRONG}", str(volume)]) == 1
    assert mlflow3_server.log.read_text().count("model.skops") == fetched


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("mlflow://models:/m-00000000000000000000000000000000", 1, "cannot be downloaded"),
        ("mlflow://models:/absent/1", 1, "cannot be downloaded"),
        ("mlflow://models:/absent/1?digest=12", 2, "64 hexadecimal digits"),
        ("mlflow://absent", 2, "must follow mlflow://"),
    ],
)
def test_other_failures_leave_nothing(run: dict[str, str], volume: Path, address: str, code: int, words: str) -> None:
    assert main(["fetch", address, str(volume)]) == code
    assert words in (volume.parent / "termination-log").read_text()
    assert list(volume.iterdir()) == []


def test_server_that_does_not_answer(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["fetch", "mlflow://models:/m-1", str(volume)]) == 2
    assert "check MLFLOW_TRACKING_URI" in (volume.parent / "termination-log").read_text()
    assert list(volume.iterdir()) == []
