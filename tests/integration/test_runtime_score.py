"""`mlops-runtime` against a real MLflow server and a real scikit-learn model: same values as the model in process.

Most tests call ``score`` in this process, because importing mlflow anew costs ten seconds; what a process does to the
outside (exit codes, signals, files) is tested on processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlops_runtime.errors import InputError, ModelDigestError, ModelError, OutputError, UnreachableError
from mlops_runtime.fetch import fetch
from mlops_runtime.score import ScoreResult, score
from mlops_runtime.settings import build_settings
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.integration

_START_SECONDS = 180
_RUN_SECONDS = 240


@dataclass(frozen=True)
class Trained:
    """A logged model, where it is served, and what it must answer."""

    tracking_uri: str
    uri: str
    digest: str
    rows: pd.DataFrame
    expected: np.ndarray


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", f"{folder}/artifacts", "--serve-artifacts", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(address, server, folder / "server.log")
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"the MLflow server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(autouse=True)
def _environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def trained(tracking_uri: str) -> Trained:
    import mlflow
    from mlflow.models import infer_signature
    from mlops_runtime.model import digest_of

    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri  # set_tracking_uri would outlive this fixture
    mlflow.set_experiment("tumours")
    features, target = load_breast_cancer(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, target)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            pipeline, name="model", signature=infer_signature(features, pipeline.predict(features))
        )
    digest = digest_of(Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}")))
    os.environ.clear()
    os.environ.update(before)
    rows = features.copy()
    rows.insert(0, "patient", [f"p{index:04d}" for index in range(len(rows))])
    rows["clinic"] = np.arange(len(rows)) % 7
    return Trained(tracking_uri, f"models:/{logged.model_id}", digest, rows, pipeline.predict(features))


def run(trained: Trained, source: Path | str, target: Path | str, **more: str) -> ScoreResult:
    flags = {"model_uri": trained.uri, "model_digest": trained.digest, "input": str(source), "output": str(target)}
    return score(build_settings({**flags, "tracking_uri": trained.tracking_uri, **more}, {}))


def write(frame: pd.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    else:
        frame.to_parquet(path, index=False, row_group_size=100)
    return path


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_parquet(path)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("output", ["scores.parquet", "scores.csv", "scores.jsonl"])
def test_values_equal_the_model_in_process(trained: Trained, tmp_path: Path, name: str, output: str) -> None:
    source = write(trained.rows, tmp_path / "in" / name)
    result = run(trained, source, tmp_path / "out" / output, batch_rows="100")
    scored = read(tmp_path / "out" / output)
    assert list(scored.columns) == ["patient", "clinic", "prediction"]
    assert scored["prediction"].tolist() == trained.expected.tolist()
    assert scored["patient"].tolist() == trained.rows["patient"].tolist()
    assert (result.rows, result.input_files, result.model_digest) == (569, 1, trained.digest)


@pytest.mark.parametrize(
    ("files", "suffix", "copies", "partitions"),
    [(5, "parquet", 1, 2), (1, "parquet", 1, 3), (2, "parquet", 1, 5), (1, "csv", 60, 2), (3, "jsonl", 1, 4)],
)
def test_partitions_together_are_the_whole(
    trained: Trained, tmp_path: Path, files: int, suffix: str, copies: int, partitions: int
) -> None:
    rows = pd.concat([trained.rows] * copies, ignore_index=True)
    rows["patient"] = [f"p{index:06d}" for index in range(len(rows))]
    for index, piece in enumerate(np.array_split(np.arange(len(rows)), files)):
        write(rows.iloc[piece], tmp_path / "in" / f"{index}.{suffix}")
    results = [
        run(trained, f"{tmp_path}/in/*.{suffix}", f"{tmp_path}/out/", partition=str(part), partitions=str(partitions))
        for part in range(partitions)
    ]
    parts = sorted((tmp_path / "out").iterdir())
    assert [part.name for part in parts] == [
        f"part-{part:05d}-of-{partitions:05d}.parquet" for part in range(partitions)
    ]
    scored = pd.concat([read(part) for part in parts]).sort_values("patient", ignore_index=True)
    assert scored["patient"].tolist() == rows["patient"].tolist()
    assert scored["prediction"].tolist() == np.tile(trained.expected, copies).tolist()
    assert sum(result.rows for result in results) == len(rows)


def test_empty_partition_has_the_schema_of_the_others(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows.head(2), tmp_path / "in" / "rows.parquet")
    results = [run(trained, source, tmp_path / "out", partition=str(part), partitions="3") for part in range(3)]
    schemas = [pq.read_schema(part) for part in sorted((tmp_path / "out").iterdir())]
    assert sorted(result.rows for result in results) == [0, 1, 1]
    assert schemas[0].equals(schemas[1])
    assert schemas[1].equals(schemas[2])


def test_input_without_rows_is_a_success(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows.head(0), tmp_path / "rows.parquet")
    assert run(trained, source, tmp_path / "out.parquet").rows == 0
    assert pq.read_schema(tmp_path / "out.parquet").field("prediction").type == pa.int64()


def test_rows_are_numbered_where_no_column_is_left(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows.drop(columns=["patient", "clinic"]), tmp_path / "rows.parquet")
    run(trained, source, tmp_path / "out.parquet", batch_rows="100")
    assert read(tmp_path / "out.parquet")["row"].tolist() == list(range(569))


def test_rerun_replaces_its_own_part_with_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows, tmp_path / "rows.csv")
    first, second = (run(trained, source, tmp_path / "out") for _ in range(2))
    assert first.output_digest == second.output_digest
    assert len(list((tmp_path / "out").iterdir())) == 1
    with pytest.raises(OutputError, match="other partitions"):
        run(trained, source, tmp_path / "out", partition="0", partitions="2")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_missing_column_is_named(trained: Trained, tmp_path: Path, suffix: str) -> None:
    source = write(trained.rows.drop(columns=["mean area"]), tmp_path / f"rows.{suffix}")
    with pytest.raises(InputError, match=rf"rows\.{suffix}: column 'mean area' is missing; expected double"):
        run(trained, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("suffix", "found"), [("parquet", "large_string|string"), ("csv", "'large' in row 4"), ("jsonl", "string")]
)
def test_mistyped_column_is_named(trained: Trained, tmp_path: Path, suffix: str, found: str) -> None:
    rows = trained.rows.astype({"mean area": object})
    rows.loc[2, "mean area"] = "large"
    source = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        rows["mean area"] = rows["mean area"].astype(str)
    if suffix == "parquet":
        rows["mean area"] = rows["mean area"].astype(str)
    write(rows, source)
    with pytest.raises(InputError, match=rf"rows\.{suffix}: column 'mean area': expected double.*found ({found})"):
        run(trained, source, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_digest_mismatch_is_named(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows, tmp_path / "rows.csv")
    with pytest.raises(ModelDigestError, match=f"expected sha256:{'0' * 64}, found {trained.digest}"):
        run(trained, source, tmp_path / "out", model_digest=f"sha256:{'0' * 64}")
    assert not (tmp_path / "out").exists()


def test_model_that_raises_names_rows_and_file(trained: Trained, tmp_path: Path) -> None:
    import mlflow.pyfunc

    class Fussy(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: object, model_input: pd.DataFrame) -> pd.Series:  # type: ignore[override]
            if (model_input["clinic"] == 6).any():
                raise ValueError("clinic 6 is closed")
            return model_input["clinic"]

    mlflow.pyfunc.save_model(tmp_path / "fussy", python_model=Fussy(), pip_requirements=[])
    source = write(trained.rows[["clinic"]], tmp_path / "rows.csv")
    with pytest.raises(
        ModelError, match=r"rows\.csv: the model failed on rows 5 to 9 .*ValueError: clinic 6 is closed"
    ):
        run(trained, source, tmp_path / "out", model_uri=str(tmp_path / "fussy"), model_digest="", batch_rows="5")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_fetch_is_whole_and_repeatable(trained: Trained, tmp_path: Path) -> None:
    target = tmp_path / "models" / "tumours"
    assert fetch(trained.uri, str(target), trained.digest, trained.tracking_uri) == target
    assert [path.name for path in target.parent.iterdir()] == ["tumours"]
    before = (target / "MLmodel").stat()
    fetch(trained.uri, str(target), trained.digest, "http://127.0.0.1:1")
    assert (target / "MLmodel").stat() == before
    with pytest.raises(ModelError, match="holds another model"):
        fetch(trained.uri, str(target), f"sha256:{'0' * 64}", trained.tracking_uri)
    (mounted := tmp_path / "mounted").mkdir()
    fetch(trained.uri, str(mounted), trained.digest, trained.tracking_uri)
    assert sorted(path.name for path in mounted.iterdir()) == sorted(path.name for path in target.iterdir())


def test_unknown_model_and_silent_server_differ(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    source = write(trained.rows, tmp_path / "rows.csv")
    with pytest.raises(ModelError, match="cannot be downloaded"):
        run(trained, source, tmp_path / "out", model_uri=f"models:/m-{'0' * 32}", model_digest="")
    with pytest.raises(UnreachableError, match="check MLFLOW_TRACKING_URI"):
        fetch(trained.uri, str(tmp_path / "model"), "", "http://127.0.0.1:1")


def _start(trained: Trained, folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[str]:
    for name in ("home", "work", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"),
        "MODEL_URI": trained.uri, "MODEL_DIGEST": trained.digest, "MLFLOW_TRACKING_URI": trained.tracking_uri,
        "OUTPUT_URI": f"{folder}/out/", "MLOPS_XCOM_PATH": str(folder / "return.json"), **variables,
    }  # fmt: skip
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("mlops-runtime")), "score"],
        cwd=folder / "work", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_process_keeps_the_containers_contract(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows, tmp_path / "in" / "rows.parquet")
    variables = {
        "INPUT_URI": f"file://{source}",
        "MLOPS_PARTITION": "1",
        "MLOPS_PARTITIONS": "2",
        "MLOPS_KEY_COLUMNS": "patient",
    }
    process = _start(trained, tmp_path, variables)
    _, lines = process.communicate(timeout=_RUN_SECONDS)
    assert process.returncode == 0, lines
    result = json.loads((tmp_path / "return.json").read_text())
    assert set(result) == {
        "rows", "seconds", "output_uri", "output_digest", "model_uri", "model_digest", "input_uri", "input_files",
        "partition", "partitions",
    }  # fmt: skip
    part = tmp_path / "out" / "part-00001-of-00002.parquet"
    assert (result["rows"], result["output_uri"], result["model_digest"]) == (285, str(part), trained.digest)
    assert read(part)["prediction"].tolist() == trained.expected[284:].tolist()
    assert [list((tmp_path / name).iterdir()) for name in ("home", "work")] == [[], []]
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("mlops-model")] == []


def test_refusal_is_one_line_and_exit_1(trained: Trained, tmp_path: Path) -> None:
    source = write(trained.rows, tmp_path / "rows.csv")
    process = _start(trained, tmp_path, {"INPUT_URI": str(source), "MODEL_DIGEST": f"sha256:{'0' * 64}"})
    _, lines = process.communicate(timeout=_RUN_SECONDS)
    assert process.returncode == 1
    assert "mlops-runtime: error: model models:/m-" in lines
    assert "ModelDigestError" in lines
    assert "Traceback" not in lines
    assert not (tmp_path / "return.json").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_stopped_run_leaves_no_output(trained: Trained, tmp_path: Path, number: signal.Signals, code: int) -> None:
    source = write(pd.concat([trained.rows] * 1000, ignore_index=True), tmp_path / "rows.parquet")
    process = _start(trained, tmp_path, {"INPUT_URI": str(source), "MLOPS_BATCH_ROWS": "50"})
    deadline = time.monotonic() + _RUN_SECONDS
    while not (tmp_path / "out").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "return.json").exists()
    if number == signal.SIGTERM:
        assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name.startswith("mlops-model")] == []
