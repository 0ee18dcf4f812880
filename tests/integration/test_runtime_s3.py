"""The runtime on S3: parts appear whole or not at all. The endpoint is moto, an HTTP stand-in for S3."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
from mlops_runtime.errors import InputError, ModelError, UnreachableError
from mlops_runtime.locations import open_filesystem
from mlops_runtime.score import ScoreResult, score
from mlops_runtime.settings import build_settings

pytestmark = pytest.mark.integration

boto3 = pytest.importorskip("boto3", reason="needs the extra mlops-model-runtime[s3]")
pytest.importorskip("s3fs", reason="needs the extra mlops-model-runtime[s3]")
pytest.importorskip("moto", reason="needs moto[server], the S3 endpoint of these tests")

_START_SECONDS = 120


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
            except urllib.error.HTTPError:
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 endpoint did not start"
                time.sleep(0.2)
            else:
                break
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = dict(os.environ)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    open_filesystem.cache_clear()
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    yield client
    for item in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=item["Key"])
    open_filesystem.cache_clear()
    os.environ.clear()
    os.environ.update(before)


class Doubler(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Fails on a negative number."""

    def predict(self, context: object, model_input: pd.DataFrame) -> pd.Series:  # type: ignore[override]
        if (model_input["x"] < 0).any():
            raise ValueError("negative")
        return model_input["x"] * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "doubler"
    mlflow.pyfunc.save_model(path, python_model=Doubler(), pip_requirements=[])
    return str(path)


def put(client: Any, key: str, values: list[float]) -> None:
    frame = pd.DataFrame({"id": range(len(values)), "x": values})
    client.put_object(Bucket="bucket", Key=key, Body=frame.to_parquet(index=False))


def run(model: str, **more: str) -> ScoreResult:
    flags = {"model_uri": model, "input": "s3://bucket/in/", "output": "s3://bucket/out/", "keep": "id"}
    return score(build_settings({**flags, **more}, {}))


def keys(client: Any, prefix: str) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])]


def test_parts_are_written_and_replaced(client: Any, model: str, tmp_path: Path) -> None:
    put(client, "in/ds=2026-01-01/a.parquet", [1.0, 2.0])
    put(client, "in/ds=2026-01-01/b.parquet", [3.0])
    for _ in range(2):
        for part in ("0", "1"):
            run(model, partition=part, partitions="2")
    assert keys(client, "out/") == ["out/part-00000-of-00002.parquet", "out/part-00001-of-00002.parquet"]
    client.download_file("bucket", "out/part-00000-of-00002.parquet", str(tmp_path / "part.parquet"))
    assert pd.read_parquet(tmp_path / "part.parquet").to_dict("list") == {"id": [0, 1], "prediction": [2.0, 4.0]}


def test_failure_in_the_middle_publishes_nothing(client: Any, model: str) -> None:
    put(client, "in/a.parquet", [1.0] * 50 + [-1.0])
    with pytest.raises(ModelError, match="negative"):
        run(model, batch_rows="10")
    assert keys(client, "out/") == []
    assert not client.list_multipart_uploads(Bucket="bucket").get("Uploads")


def test_missing_bucket_and_silent_endpoint_differ(client: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no input file at s3://nowhere/in/"):
        run(model, input="s3://nowhere/in/")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    open_filesystem.cache_clear()
    with pytest.raises(UnreachableError, match="check the address"):
        run(model)
