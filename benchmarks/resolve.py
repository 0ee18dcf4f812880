"""How long does it take to resolve a tagged model, next to MlflowClient: a cold process, and warm.

Starts a real MLflow server with one trained model, then measures interleaved pairs, each side doing the same: find
the newest finished run with a tag in a named experiment, and its model. Cold is a fresh interpreter with imports.
Ours also checks the ``MLmodel`` file and notes its digest, which MlflowClient does not. Prints medians and ratios; the
raw seconds go to a file on request: ``python benchmarks/resolve.py [--pairs 7] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "integration"))
import mlflow_servers

WARM_CALLS = 20

OURS = """
from airflow_mlops_provider.declaration.selector import ModelSelector
from airflow_mlops_provider.hooks.mlflow_client import MLflowClient
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings
client = MLflowClient(MLflowSettings(tracking_uri=URL))
selector = ModelSelector(experiment="bench", run_tag={"stage": "prod"})
def resolve():
    return client.resolve_model(selector).uri
"""

PEER = """
from mlflow import MlflowClient
client = MlflowClient(URL)
def resolve():
    experiment = client.get_experiment_by_name("bench")
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED' and tags.stage = 'prod'",
                              order_by=["attributes.start_time DESC"], max_results=1)
    return "models:/" + runs[0].outputs.model_outputs[0].model_id
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs, at least 5")
    parser.add_argument("--json", type=Path, help="where to keep the raw seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, mlflow_servers.serve(Path(folder)) as server:
        trainer = mlflow_servers.Trainer()
        run = trainer.train(server.url, "bench", tags={"stage": "prod"})
        trainer.close()
        found = measure(server.url, max(arguments.pairs, 5), f"models:/{run.models['model']}")
    for kind in ("cold", "warm"):
        ours, peer = (statistics.median(found[f"{kind} {side}"]) for side in ("ours", "MlflowClient"))
        print(f"{kind}: ours {ours * 1000:.0f} ms, MlflowClient {peer * 1000:.0f} ms, ratio {ours / peer:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


def measure(url: str, pairs: int, expected: str) -> dict[str, list[float]]:
    """Return seconds by kind and side. Whatever does not find the expected model ends the benchmark."""
    found: dict[str, list[float]] = {}
    for side, code in (("ours", OURS), ("MlflowClient", PEER)):  # bytecode and the server's first answer, unmeasured
        cold(url, code, expected)
        found[f"cold {side}"], found[f"warm {side}"] = [], []
    for _ in range(pairs):
        for side, code in (("ours", OURS), ("MlflowClient", PEER)):
            found[f"cold {side}"].append(cold(url, code, expected))
    warm = {side: prepare(url, code) for side, code in (("ours", OURS), ("MlflowClient", PEER))}
    for _ in range(pairs * WARM_CALLS):
        for side, resolve in warm.items():
            start = time.perf_counter()
            answer = resolve()
            found[f"warm {side}"].append(time.perf_counter() - start)
            assert answer == expected
    return found


def cold(url: str, code: str, expected: str) -> float:
    program = f"URL = {url!r}\n{code}\nprint(resolve())"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    assert done.stdout.strip() == expected, done.stdout
    return seconds


def prepare(url: str, code: str) -> Callable[[], str]:
    names: dict[str, object] = {"URL": url}
    exec(code, names)
    resolve = names["resolve"]
    assert callable(resolve)
    resolve()
    return resolve


if __name__ == "__main__":
    main()
