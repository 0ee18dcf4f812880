"""Every rule of resolution against a real MLflow 3 server and real models."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel
from airflow_mlops_provider.exceptions import (
    AccessDeniedError,
    AmbiguousModelError,
    ModelChangedError,
    ModelNotFoundError,
    PermanentError,
    TransientError,
)
from airflow_mlops_provider.hooks.mlflow import MLflowHook
from airflow_mlops_provider.hooks.mlflow_client import AsyncMLflowClient, MLflowClient, aresolve_model, resolve_model
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

pytestmark = pytest.mark.integration

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Train = Callable[..., Any]
PROD = {"run_tag": {"stage": "prod"}}


class CountingTransport(httpx.HTTPTransport):
    """Count what goes over the wire; answer the first ``faults`` requests with 503 itself; send another Host header."""

    def __init__(self, *, faults: int = 0, host: str | None = None) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.faults, self.host = faults, host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        if len(self.paths) <= self.faults:
            return httpx.Response(503, text="warming up")
        if self.host:
            request.headers["Host"] = self.host
        return super().handle_request(request)


@pytest.fixture(scope="module")
def settings(mlflow3_server: Any) -> MLflowSettings:
    return MLflowSettings(tracking_uri=mlflow3_server.url, timeout_seconds=30, total_seconds=60)


@pytest.fixture(scope="module")
def train(mlflow3_server: Any, train_model: Train) -> Train:
    return lambda experiment, **run: train_model(mlflow3_server.url, experiment, **run)


@pytest.fixture(scope="module")
def mlflow_client(mlflow3_server: Any) -> Any:
    import mlflow

    return mlflow.MlflowClient(mlflow3_server.url)


@pytest.fixture
def resolve(settings: MLflowSettings) -> Callable[..., ResolvedModel]:
    return lambda **way: resolve_model(settings, ModelSelector(**way))


def mlmodel(server: Any, run: Any, name: str = "model") -> Path:
    return Path(server.artifacts) / run.experiment_id / "models" / run.models[name] / "artifacts" / "MLmodel"


def test_tagged_run_is_the_model_of_the_last_run(mlflow3_server: Any, train: Train, resolve: Any) -> None:
    train("churn", tags={"stage": "prod"})
    last = train("churn", tags={"stage": "prod"})
    train("churn", tags={"stage": "dev"})
    found = resolve(experiment="churn", **PROD)
    content = mlmodel(mlflow3_server, last).read_bytes()
    assert (found.run_id, found.experiment_id) == (last.run_id, last.experiment_id)
    assert (found.uri, found.model_id, found.name) == (f"models:/{last.models['model']}", last.models["model"], "model")
    assert found.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    assert found.git_commit == COMMIT
    assert found.run_url == f"{mlflow3_server.url}/#/experiments/{last.experiment_id}/runs/{last.run_id}"
    with pytest.raises(AmbiguousModelError, match="2 finished runs carry the tag"):
        resolve(experiment="churn", on_ambiguous="fail", **PROD)


def test_mlflow_itself_finds_the_artifact_under_both_uris(
    mlflow3_server: Any, train: Train, resolve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    train("artifact", tags={"stage": "prod"})
    found = resolve(experiment="artifact", **PROD)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow3_server.url)  # set_tracking_uri would outlive this test
    for number, uri in enumerate((found.uri, found.source_uri)):
        folder = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / str(number)))
        assert "sha256:" + hashlib.sha256((Path(folder) / "MLmodel").read_bytes()).hexdigest() == found.digest


def test_three_models_in_one_run_need_a_name(train: Train, resolve: Any) -> None:
    run = train("three", models=("a", "b", "c"), tags={"stage": "prod"})
    with pytest.raises(AmbiguousModelError) as caught:
        resolve(experiment="three", **PROD)
    assert all(f"{name} ({one})" in str(caught.value) for name, one in run.models.items())
    assert run.run_id in str(caught.value)
    assert set(caught.value.candidates) == set(run.models.values())
    assert resolve(experiment="three", logged_model="b", **PROD).model_id == run.models["b"]
    assert resolve(experiment="three", logged_model=run.models["c"], **PROD).name == "c"
    assert resolve(uri=f"runs:/{run.run_id}/a").uri == f"models:/{run.models['a']}"
    assert resolve(uri=f"runs:/{run.run_id}", logged_model="b").uri == f"models:/{run.models['b']}"
    with pytest.raises(ModelNotFoundError, match=r"has no model 'd'; it has a \(m-"):
        resolve(experiment="three", logged_model="d", **PROD)


def test_run_of_an_mlflow_2_client(mlflow3_server: Any, train_model_with_mlflow2: Train, resolve: Any) -> None:
    one = train_model_with_mlflow2(mlflow3_server.url, "old client", tags={"stage": "prod"})
    two = train_model_with_mlflow2(mlflow3_server.url, "old client", tags={"stage": "dev"}, models=["a", "b"])
    found = resolve(experiment="old client", **PROD)
    assert (found.uri, found.model_id) == (f"runs:/{one.run_id}/model", None)
    assert found.source_uri.endswith(f"/{one.run_id}/artifacts/model/")
    with pytest.raises(AmbiguousModelError, match="has 2 models: a, b"):
        resolve(experiment="old client", run_tag={"stage": "dev"})
    assert resolve(uri=f"runs:/{two.run_id}/b").uri == f"runs:/{two.run_id}/b"


def test_tag_on_a_failed_or_running_run_is_not_enough(train: Train, resolve: Any) -> None:
    failed = train("failed", tags={"stage": "prod"}, status="FAILED")
    running = train("failed", tags={"stage": "prod"}, status="RUNNING")
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(experiment="failed", **PROD)
    assert f"{failed.run_id} (FAILED)" in str(caught.value)
    assert f"{running.run_id} (RUNNING)" in str(caught.value)


def test_deleted_run_is_not_found_and_a_pinned_one_fails(
    settings: MLflowSettings, train: Train, resolve: Any, mlflow_client: Any
) -> None:
    run = train("deleted", tags={"stage": "prod"})
    pinned = resolve(experiment="deleted", **PROD)
    with MLflowClient(settings) as client:
        client.verify_model(pinned)
        mlflow_client.delete_run(run.run_id)
        with pytest.raises(ModelNotFoundError, match=rf"only {run.run_id} \(deleted\)"):
            resolve(experiment="deleted", **PROD)
        with pytest.raises(ModelNotFoundError, match="is deleted; restore it"):
            resolve(uri=f"runs:/{run.run_id}/model")
        with pytest.raises(ModelChangedError, match="was deleted after"):
            client.verify_model(pinned)


def test_deleted_experiment_and_unknown_experiment(train: Train, resolve: Any, mlflow_client: Any) -> None:
    run = train("short lived", tags={"stage": "prod"})
    resolve(experiment="short lived", **PROD)
    mlflow_client.delete_experiment(run.experiment_id)
    with pytest.raises(ModelNotFoundError, match=r"'short lived' \(ID \d+\) is deleted"):
        resolve(experiment="short lived", **PROD)
    train("spelled right")
    with pytest.raises(ModelNotFoundError, match="did you mean 'spelled right'"):
        resolve(experiment="speled right", **PROD)


def test_tie_is_an_error_that_lists_the_runs(train: Train, resolve: Any) -> None:
    runs = [train("tie", tags={"stage": "prod"}, start_time=1_700_000_000_000) for _ in range(2)]
    with pytest.raises(AmbiguousModelError, match="same millisecond") as caught:
        resolve(experiment="tie", **PROD)
    assert set(caught.value.candidates) == {run.run_id for run in runs}


def test_missing_tag_says_how_to_set_it(train: Train, resolve: Any) -> None:
    train("untagged")
    with pytest.raises(ModelNotFoundError, match=r"tag a FINISHED run of experiment 'untagged' .*'stage', 'prod'"):
        resolve(experiment="untagged", **PROD)
    train("no model", models=())
    with pytest.raises(ModelNotFoundError, match="has no model; log one"):
        resolve(experiment="no model", latest_run=True)


def test_model_without_its_mlmodel_file(mlflow3_server: Any, settings: MLflowSettings, train: Train) -> None:
    selector = ModelSelector(experiment="no file", run_tag={"stage": "prod"})
    kept = train("no file", tags={"stage": "prod"})
    pinned = resolve_model(settings, selector)
    lost = train("no file", tags={"stage": "prod"})
    mlmodel(mlflow3_server, lost).unlink()
    with pytest.raises(ModelNotFoundError, match=f"{lost.models['model']}.* has no MLmodel file"):
        resolve_model(settings, selector)
    with MLflowClient(settings) as client:
        file = mlmodel(mlflow3_server, kept)
        file.write_bytes(file.read_bytes() + b"more: 1\n")
        with pytest.raises(ModelChangedError, match="is another one"):
            client.verify_model(pinned)
        file.unlink()
        with pytest.raises(ModelChangedError, match="is gone"):
            client.verify_model(pinned)


@pytest.mark.parametrize("name", ["Отток/клиенты ё", 'it\'s "quoted" `too`', "a/b?c=d&e#f%20+"])
def test_names_that_people_give(train: Train, resolve: Any, name: str) -> None:
    run = train(name, tags={"стадия": name, "stage": "prod"})
    assert resolve(experiment=name, run_tag={"стадия": name, "stage": "prod"}).run_id == run.run_id
    with pytest.raises(ModelNotFoundError):
        resolve(experiment=name, run_tag={"стадия": name, "stage": "test"})


@pytest.mark.parametrize(
    "value",
    ["it's", 'say "x"', "both ' and \"", "end\\", "a'' b", "x' and tags.y = 'z", "%_", "two\nlines", "", "-- c", "`t`"],
)
def test_tag_values_reach_the_server_whole(train: Train, resolve: Any, mlflow_client: Any, value: str) -> None:
    run = _value_run(train)
    mlflow_client.set_tag(run.run_id, "k.e/y -_:1", value)
    assert resolve(experiment="values", run_tag={"k.e/y -_:1": value}).run_id == run.run_id
    with pytest.raises(ModelNotFoundError):
        resolve(experiment="values", run_tag={"k.e/y -_:1": value + "x"})


_value_runs: list[Any] = []


def _value_run(train: Train) -> Any:
    if not _value_runs:
        _value_runs.append(train("values"))
    return _value_runs[0]


def test_registry(mlflow3_server: Any, train: Train, resolve: Any, mlflow_client: Any) -> None:
    run = train("registry", registered_model="churn_gbm")
    newer = train("registry", registered_model="churn_gbm")
    mlflow_client.set_registered_model_alias("churn_gbm", "champion", "1")
    found = resolve(registered_model="churn_gbm", alias="champion")
    assert (found.uri, found.name, found.version) == ("models:/churn_gbm/1", "churn_gbm", "1")
    assert (found.model_id, found.run_id, found.git_commit) == (run.models["model"], run.run_id, COMMIT)
    assert found.source_uri.endswith(f"/{run.models['model']}/artifacts/")
    by_id = resolve(uri=f"models:/{run.models['model']}")
    assert (by_id.digest, by_id.source_uri) == (found.digest, found.source_uri)
    assert resolve(uri="models:/churn_gbm@champion").digest == found.digest
    assert resolve(registered_model="churn_gbm", version="2").run_id == newer.run_id
    with pytest.raises(ModelNotFoundError, match="aliases champion → 1 and its newest version is 2"):
        resolve(registered_model="churn_gbm", alias="nobody")
    with pytest.raises(ModelNotFoundError, match="no model is registered by that name"):
        resolve(registered_model="unknown", version="1")
    copy = mlflow_client.copy_model_version("models:/churn_gbm/1", "churn_prod")
    copied = resolve(registered_model="churn_prod", version=str(copy.version))
    assert (copied.digest, copied.source_uri) == (found.digest, found.source_uri)


def test_registered_version_outlives_its_run(
    settings: MLflowSettings, train: Train, resolve: Any, mlflow_client: Any
) -> None:
    run = train("outlived", registered_model="outlived")
    mlflow_client.delete_run(run.run_id)
    found = resolve(uri="models:/outlived/1")
    with MLflowClient(settings) as client:
        client.verify_model(found)
        mlflow_client.delete_model_version("outlived", "1")
        with pytest.raises(ModelChangedError, match="is gone"):
            client.verify_model(found)


def test_store_that_the_server_does_not_proxy(
    mlflow3_server: Any, train: Train, mlflow_client: Any, resolve: Any
) -> None:
    place = mlflow3_server.artifacts.parent / "own-store"
    mlflow_client.create_experiment("own store", artifact_location=str(place))
    train("own store", tags={"stage": "prod"})
    assert str(place) in resolve(experiment="own store", **PROD).source_uri


def test_requests_over_the_wire(settings: MLflowSettings, train: Train, mlflow_client: Any) -> None:
    """2 requests choose a tagged model, 1 once the experiment is known; a model never seen costs its name and file."""
    train("counted", tags={"stage": "prod"}, registered_model="counted")
    mlflow_client.set_registered_model_alias("counted", "prod", "1")
    ways = {
        "tag": (ModelSelector(experiment="counted", run_tag={"stage": "prod"}), 4, 1),
        "alias": (ModelSelector(registered_model="counted", alias="prod"), 3, 1),
    }
    for selector, cold, warm in ways.values():
        transport = CountingTransport()
        with MLflowClient(settings, transport=transport) as client:
            client.resolve_model(selector)
            assert len(transport.paths) == cold, transport.paths
            client.resolve_model(selector)
            assert len(transport.paths) == cold + warm, transport.paths
    assert transport.paths[-1].endswith("registered-models/alias")


def test_asynchronous_twin_says_the_same(settings: MLflowSettings, train: Train) -> None:
    train("twins", tags={"stage": "prod"})
    selector = ModelSelector(experiment="twins", run_tag={"stage": "prod"})
    first = resolve_model(settings, selector)
    second = asyncio.run(aresolve_model(settings, selector))
    assert second.digest == first.digest
    assert second.uri == first.uri

    async def many() -> list[ResolvedModel]:
        async with AsyncMLflowClient(settings) as client:
            return await asyncio.gather(*(client.resolve_model(selector) for _ in range(5)))

    assert {found.uri for found in asyncio.run(many())} == {first.uri}


def test_server_that_answers_503_twice(settings: MLflowSettings, train: Train) -> None:
    train("busy", tags={"stage": "prod"})
    selector = ModelSelector(experiment="busy", run_tag={"stage": "prod"})
    waits: list[float] = []
    with MLflowClient(settings, transport=CountingTransport(faults=2), sleep=waits.append) as client:
        assert client.resolve_model(selector).name == "model"
    assert len(waits) == 2
    impatient = MLflowSettings(tracking_uri=settings.tracking_uri, total_seconds=0.5)
    with (
        MLflowClient(impatient, transport=CountingTransport(faults=10**6)) as client,
        pytest.raises(TransientError, match=r"experiment 'busy': .* 503: warming up; gave up after"),
    ):
        client.resolve_model(selector)


def test_host_name_that_the_server_does_not_expect(settings: MLflowSettings) -> None:
    with (
        MLflowClient(settings, transport=CountingTransport(host="mlflow.example")) as client,
        pytest.raises(AccessDeniedError, match="--allowed-hosts"),
    ):
        client.resolve_model(ModelSelector(experiment="x", latest_run=True))


def test_workspace_on_a_server_without_workspaces(mlflow3_server: Any) -> None:
    asked = MLflowSettings(tracking_uri=mlflow3_server.url, workspace="ds")
    with pytest.raises(PermanentError, match="remove the workspace from the connection"):
        resolve_model(asked, ModelSelector(experiment="x", latest_run=True))


def test_hook_on_a_real_connection(mlflow3_server: Any, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "mlflow", "host": mlflow3_server.url}
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
    run = train("hook", tags={"stage": "prod"}, registered_model="hook")
    hook = MLflowHook()
    works, message = hook.test_connection()
    assert works, message
    assert message.startswith("MLflow 3.")
    found = hook.resolve_model(ModelSelector(experiment="hook", run_tag={"stage": "prod"}))
    hook.verify_model(found)
    assert asyncio.run(hook.aresolve_model(ModelSelector(uri="models:/hook/1"))).run_id == run.run_id
    for page in (found.run_url, hook.model_page_url(found)):
        assert page is not None
        assert httpx.get(page.partition("#")[0]).status_code == 200
    hook.close()
