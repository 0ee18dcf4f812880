"""Scoring a file, whole process: `mlops-runtime score` beside `mlflow models predict` and a hand-written pandas loop.

Prints ratios of wall time, CPU and peak memory, measured in turn in one run; absolute figures mean little.
Trains a scikit-learn model on a real data set, resampled to size, and serves it from a real MLflow server.

    python benchmarks/score.py [--pairs 5] [--csv-rows 200000] [--parquet-rows 1000000] [--runtime-bin DIR] [--json F]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

_START_SECONDS = 180
_LOOP = """
import sys, mlflow.pyfunc, pandas as pd
source, target, uri = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
rows = pd.read_csv(source) if source.endswith(".csv") else pd.read_parquet(source)
scored = rows[["id"]].assign(prediction=model.predict(rows.drop(columns="id")))
scored.to_csv(target, index=False) if target.endswith(".csv") else scored.to_parquet(target, index=False)
"""


@dataclass(frozen=True)
class Sample:
    """One process, start to end, children included."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def measure(command: list[str], environment: dict[str, str], log: Path) -> Sample:
    """Run a command and read its own usage from ``wait4``; the peak is that of the largest process waited for."""
    started = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with {process.returncode}: {log.read_text()[-2000:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def serve(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start an MLflow server and wait until it answers."""
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
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
        except OSError:
            time.sleep(0.5)
        else:
            return server, address
    raise SystemExit(f"the MLflow server did not start: {(folder / 'server.log').read_text()[-2000:]}")


def prepare(folder: Path, csv_rows: int, parquet_rows: int) -> str:
    """Write the inputs, log the model, return its URI; runs in a child, so that this process stays small."""
    import mlflow
    import numpy as np
    from mlflow.models import infer_signature
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, target = load_breast_cancer(return_X_y=True, as_frame=True)
    for rows, name in ((csv_rows, "rows.csv"), (parquet_rows, "rows.parquet"), (parquet_rows * 10, "tenfold.parquet")):
        sample = features.sample(rows, replace=True, random_state=0).reset_index(drop=True)
        sample.insert(0, "id", np.arange(rows))
        if name.endswith(".csv"):
            sample.to_csv(folder / name, index=False)
            sample.drop(columns="id").to_csv(folder / "features.csv", index=False)
        else:
            sample.to_parquet(folder / name, index=False)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, target)
    with mlflow.start_run():
        signature = infer_signature(features, pipeline.predict(features))
        return f"models:/{mlflow.sklearn.log_model(pipeline, name='model', signature=signature).model_id}"


def commands(folder: Path, uri: str, runtime: Path) -> dict[str, list[str]]:
    """Return the rivals by name."""
    here = Path(sys.executable).parent
    score, source = [str(runtime / "mlops-runtime"), "score", "--model-uri", uri], str(folder)
    return {
        "csv runtime": [*score, "--input", f"{source}/rows.csv", "--output", f"{source}/out/a.csv"],
        "csv mlflow models predict": [
            str(here / "mlflow"), "models", "predict", "-m", uri, "-i", f"{source}/features.csv", "-t", "csv",
            "-o", f"{source}/out/b.json", "--env-manager", "local",
        ],
        "csv pandas loop": [str(here / "python"), "-c", _LOOP, f"{source}/rows.csv", f"{source}/out/c.csv", uri],
        "parquet runtime": [*score, "--input", f"{source}/rows.parquet", "--output", f"{source}/out/a.parquet"],
        "parquet pandas loop": [
            str(here / "python"), "-c", _LOOP, f"{source}/rows.parquet", f"{source}/out/c.parquet", uri,
        ],
        "parquet x10 runtime": [*score, "--input", f"{source}/tenfold.parquet", "--output", f"{source}/out/d.parquet"],
    }  # fmt: skip


def report(samples: dict[str, list[Sample]]) -> None:
    """Print medians and the ratios that the bars are about."""
    medians = {
        name: Sample(*(statistics.median(getattr(run, field) for run in runs) for field in Sample.__annotations__))
        for name, runs in samples.items()
    }
    for name, run in medians.items():
        print(f"{name:28} {run.wall_seconds:7.2f} s wall {run.cpu_seconds:7.2f} s cpu {run.peak_mib:7.0f} MiB")
    pairs = [
        ("csv runtime", "csv mlflow models predict", "time <= 0.5"),
        ("csv runtime", "csv pandas loop", ""),
        ("parquet runtime", "parquet pandas loop", "time <= 0.7, memory <= 0.3"),
        ("parquet x10 runtime", "parquet runtime", "memory flat"),
    ]
    for ours, other, bar in pairs:
        a, b = medians[ours], medians[other]
        print(
            f"{ours} / {other}: wall {a.wall_seconds / b.wall_seconds:.2f}, cpu {a.cpu_seconds / b.cpu_seconds:.2f}, "
            f"memory {a.peak_mib / b.peak_mib:.2f}" + (f"   (bar: {bar})" if bar else "")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--csv-rows", type=int, default=200_000)
    parser.add_argument("--parquet-rows", type=int, default=1_000_000)
    parser.add_argument("--runtime-bin", type=Path, default=Path(sys.executable).parent, help="where mlops-runtime is")
    parser.add_argument("--json", type=Path, help="keep the raw figures here")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        (options.prepare / "uri").write_text(prepare(options.prepare, options.csv_rows, options.parquet_rows))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "out").mkdir()
        server, address = serve(folder)
        try:
            environment = {**os.environ, "MLFLOW_TRACKING_URI": address}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)  # imports without bytecode take twice as long
            sizes = ["--csv-rows", str(options.csv_rows), "--parquet-rows", str(options.parquet_rows)]
            subprocess.run(
                [sys.executable, __file__, "--prepare", scratch, *sizes],
                env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            rivals = commands(folder, (folder / "uri").read_text(), options.runtime_bin)
            samples: dict[str, list[Sample]] = {name: [] for name in rivals}
            for _ in range(options.pairs):
                for name, command in rivals.items():
                    samples[name].append(measure(command, environment, folder / "log"))
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    report(samples)
    if options.json:
        options.json.write_text(json.dumps({name: [asdict(run) for run in runs] for name, runs in samples.items()}))


if __name__ == "__main__":
    main()
