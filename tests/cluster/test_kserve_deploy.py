"""Deploying with the real KServe: green means that this very model answered, red names the cause in its first line.

Operators run in this process with a context as the task runner builds it; models come from a real MLflow server and
are served by the real runtime.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from kserve_world import World, fails, serving, world

__all__ = ["serving", "world"]

pytestmark = pytest.mark.cluster

#: Fine where it is logged, and at its first prediction in a pod it ends the process.
CRASHING_MODEL = """
import os
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Crash(PythonModel):
    def predict(self, context, model_input, params=None):
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            print("out of luck", flush=True)
            os._exit(9)
        return [0.0] * len(model_input)

set_model(Crash())
"""
EXAMPLE = {"from": "input_example", "expect_shape": [2, 2], "max_latency_seconds": 5}


@pytest.fixture(scope="module")
def first(served_models: Any) -> Any:
    return served_models[0]


@pytest.fixture(scope="module")
def second(served_models: Any) -> Any:
    return served_models[1]


def selector(stage: str) -> dict[str, Any]:
    return {"experiment": "/tests/kserve", "run_tag": {"stage": stage}}


def predictions(world: World, name: str, rows: Any, **arguments: Any) -> list[float]:
    """Return what the service says of *rows*, asked over HTTP."""
    body = {"dataframe_split": rows.to_dict(orient="split", index=False)}
    answer = world.predict(name, request=body, path="/invocations", **arguments)["answers"][0]
    return [row[1] for row in answer["predictions"]]


@pytest.fixture(scope="module")
def churn(world: World, first: Any) -> dict[str, Any]:
    """A real model, deployed with two pods."""
    return world.deploy("churn", model=selector("one"), min_replicas=2, smoke_test=EXAMPLE, timeout_seconds=240)


def test_deployed_model_predicts_as_in_process(world: World, churn: dict[str, Any], first: Any) -> None:
    assert predictions(world, "churn", first.rows) == pytest.approx(first.predictions)
    assert (churn["created"], churn["changed"], churn["model"]["uri"]) == (True, True, f"models:/{first.model_id}")
    assert 0 < churn["latency_seconds"] < 5
    assert churn["url"].startswith("http://churn")


def test_unchanged_spec_is_not_patched(world: World, churn: dict[str, Any]) -> None:
    before = world.get("InferenceService", "churn")["metadata"]["resourceVersion"]
    again = world.deploy("churn", model=selector("one"), min_replicas=2, smoke_test=EXAMPLE)
    assert world.get("InferenceService", "churn")["metadata"]["resourceVersion"] == before
    assert (again["changed"], again["uid"], again["spec_hash"]) == (False, churn["uid"], churn["spec_hash"])


def test_dry_run_tells_and_changes_nothing(world: World, churn: dict[str, Any], second: Any) -> None:
    before = world.get("InferenceService", "churn")["metadata"]["resourceVersion"]
    plan = world.deploy("churn", model=selector("two"), min_replicas=2, dry_run=True)
    assert (plan["changed"], plan["created"]) == (True, False)
    assert plan["model"]["uri"] == f"models:/{second.model_id}"
    assert world.get("InferenceService", "churn")["metadata"]["resourceVersion"] == before


class Hammer:
    """A client that never stops asking, and notes every answer and when it came."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask, self._stop = ask, threading.Event()
        self.answers: list[tuple[float, Any]] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def since(self, moment: float) -> list[Any]:
        return [answer for came, answer in self.answers if came >= moment]

    def wait_for_answers(self, moment: float, number: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.since(moment)) < number:
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append((time.monotonic(), self._ask()))
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def __enter__(self) -> Hammer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)


def service_client(world: World, name: str, rows: Any) -> Callable[[], float]:
    """Return a client of the Kubernetes Service: the node itself is one, by kube-proxy's rules."""
    address = world.get("Service", f"{name}-predictor")["spec"]["clusterIP"]
    body = {"dataframe_split": rows.head(1).to_dict(orient="split", index=False)}

    def ask() -> float:
        answer = httpx.post(f"http://{address}/invocations", json=body, timeout=10)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:300]}"
        time.sleep(0.02)
        return float(answer.json()["predictions"][0][1])

    return ask


def test_second_version_is_switched_to_without_a_failed_request(
    world: World, churn: dict[str, Any], first: Any, second: Any
) -> None:
    expected = {"old": first.predictions[0], "new": _first_prediction(second, first.rows)}
    with Hammer(service_client(world, "churn", first.rows)) as client:
        done = world.deploy(
            "churn",
            model=selector("two"),
            min_replicas=2,
            smoke_test=EXAMPLE,
            deferrable=True,
            timeout_seconds=240,
        )
        # kube-proxy learns of an ending pod a moment later than the operator, and such a pod answers until then.
        switched = time.monotonic() + 2
        client.wait_for_answers(switched, 5)
    assert client.failures == []
    assert client.answers[0][1] == pytest.approx(expected["old"])
    after = client.since(switched)
    assert after == pytest.approx([expected["new"]] * len(after))
    assert (done["created"], done["changed"], done["uid"]) == (False, True, churn["uid"])
    assert predictions(world, "churn", second.rows, expect_model_uri=f"models:/{second.model_id}") == pytest.approx(
        second.predictions
    )


def _first_prediction(model: Any, rows: Any) -> float:
    import mlflow

    return float(mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(rows.head(1))[0][1])


def test_failed_version_is_rolled_back_and_the_former_one_predicts(
    world: World, churn: dict[str, Any], first: Any, second: Any
) -> None:
    now = world.get("InferenceService", "churn")["spec"]["predictor"]["annotations"]["airflow-mlops/model-uri"]
    assert now == f"models:/{second.model_id}", "the test before has switched to it"
    message = fails(
        lambda: world.deploy(
            "churn",
            model=selector("one"),
            min_replicas=2,
            smoke_test={**EXAMPLE, "expect_shape": [2, 7]},
            on_failure="rollback",
            timeout_seconds=240,
        ),
        "the prediction failed: its answer has the shape [2, 2], [2, 7] is expected",
        within_seconds=480,
    )
    assert f"the former version serves again (spec {churn_hash(world)}, model models:/{second.model_id})" in message
    assert predictions(world, "churn", second.rows, expect_model_uri=now) == pytest.approx(second.predictions)


def churn_hash(world: World) -> str:
    found: str = world.get("InferenceService", "churn")["spec"]["predictor"]["annotations"]["airflow-mlops/spec-hash"]
    return found


def test_prediction_of_another_model_is_refused(world: World, churn: dict[str, Any], first: Any) -> None:
    fails(
        lambda: predictions(world, "churn", first.rows, expect_model_uri="models:/m-other"),
        "serves model models:/m-",
        "not models:/m-other",
    )


@pytest.fixture(scope="module")
def tiny(world: World, mlflow_server: Any) -> Callable[..., dict[str, Any]]:
    """Log a small model with this requirement or that, and resolve it."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    from airflow_mlops_provider.declaration import ModelSelector
    from airflow_mlops_provider.hooks.mlflow import MLflowHook

    mlflow.set_tracking_uri(mlflow_server.url)
    mlflow.set_experiment("/tests/kserve-tiny")

    def log(*, python_model: str | None = None, requirements: tuple[str, ...] = ("scikit-learn",)) -> dict[str, Any]:
        needs = ["mlflow", *requirements]
        with mlflow.start_run():
            if python_model:
                info = mlflow.pyfunc.log_model(
                    name="model", python_model=python_model, pip_requirements=needs, input_example=[[1.0]]
                )
            else:
                fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
                info = mlflow.sklearn.log_model(fitted, name="model", pip_requirements=needs)
        return MLflowHook("mlflow_kserve").resolve_model(ModelSelector(uri=info.model_uri)).to_dict()

    return log


def refuse(world: World, first: Any, model: dict[str, Any], *causes: str, **arguments: Any) -> None:
    """Assert that deploying *model* over a healthy service fails with *causes*, and that the service answers on."""
    before = serving_model(world, first.rows)
    # Importing MLflow takes pods most of this time, twice or three times until they count as lost.
    fails(lambda: world.deploy("churn", model=model, min_replicas=2, **arguments), *causes, within_seconds=120)
    assert serving_model(world, first.rows) == before


def serving_model(world: World, rows: Any) -> str:
    body = {"dataframe_split": rows.head(2).to_dict(orient="split", index=False)}
    (uri,) = world.predict("churn", request=body, path="/invocations", expect_shape=[2, 2])["model_uris"]
    return str(uri)


def test_missing_requirement_is_named_before_anything_is_deployed(
    world: World, churn: dict[str, Any], first: Any, tiny: Callable[..., dict[str, Any]]
) -> None:
    before = world.get("InferenceService", "churn")["metadata"]["resourceVersion"]
    model = tiny(requirements=("scikit-learn", "prophet==1.1"))
    refuse(
        world,
        first,
        model,
        "IncompatibleRuntimeError: runtime 'mlops-mlflow' cannot run model",
        "prophet==1.1 is missing",
    )
    assert world.get("InferenceService", "churn")["metadata"]["resourceVersion"] == before


def test_runtime_that_is_not_there(
    world: World, churn: dict[str, Any], first: Any, tiny: Callable[..., dict[str, Any]]
) -> None:
    refuse(world, first, tiny(), "runtime 'mlops-other' is neither a ServingRuntime", runtime="mlops-other")


def test_digest_that_differs(
    world: World, churn: dict[str, Any], first: Any, tiny: Callable[..., dict[str, Any]]
) -> None:
    other = {**tiny(), "digest": "sha256:" + "0" * 64}
    refuse(world, first, other, "container storage-initializer", "sha256:" + "0" * 64)


def test_model_file_deleted_after_pinning(
    world: World, churn: dict[str, Any], first: Any, mlflow_server: Any, tiny: Callable[..., dict[str, Any]]
) -> None:
    model = tiny()
    (file,) = (mlflow_server.directory / "artifacts").rglob(f"{model['model_id']}/artifacts/MLmodel")
    file.unlink()
    refuse(world, first, model, "container storage-initializer", "failed 2 times", "MLmodel")


def test_crash_after_load(
    world: World, churn: dict[str, Any], first: Any, tmp_path: Path, tiny: Callable[..., dict[str, Any]]
) -> None:
    code = tmp_path / "crash.py"
    code.write_text(CRASHING_MODEL)
    model = tiny(python_model=str(code), requirements=())
    refuse(world, first, model, "container kserve-container", "failed 3 times", deferrable=True)
