"""Every way of choosing, and what a pinned model must still be."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from airflow_mlops_provider.declaration.selector import ModelSelector, ResolvedModel
from airflow_mlops_provider.exceptions import AccessDeniedError, ModelChangedError, ModelNotFoundError
from airflow_mlops_provider.hooks.mlflow_api import Response
from airflow_mlops_provider.hooks.mlflow_cache import ModelCache
from airflow_mlops_provider.hooks.mlflow_resolve import resolve, verify
from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

RUN = "a" * 32
MODEL = "m-" + "1" * 32
SETTINGS = MLflowSettings(tracking_uri="http://mlflow:5000")
STORE = f"mlflow-artifacts:/7/models/{MODEL}/artifacts"
MLMODEL = f"artifact_path: {STORE}\nflavors:\n  python_function: {{}}\nmodel_id: {MODEL}\nrun_id: {RUN}\n".encode()


def version_row(**changes: Any) -> dict[str, Any]:
    row = {"name": "reg", "version": "3", "creation_timestamp": 5, "source": f"models:/{MODEL}", "run_id": RUN}
    return {"model_version": {**row, "status": "READY", **changes}}


def server_of(answers: Any, rows: Any, **changes: Any) -> Any:
    run = rows.run(models=[MODEL], tags={"stage": "prod"}, **changes)
    return answers(
        {
            "experiments/get-by-name": {"experiment": {"experiment_id": "7"}},
            "runs/search": {"runs": [run]},
            "runs/get": {"run": run},
            "artifacts/files": MLMODEL,
            "model-versions/get-artifact": MLMODEL,
            "registered-models/alias": version_row(),
            "model-versions/get": version_row(),
            MODEL: {"model": rows.model(MODEL)},
            "logged-models/search": {"models": [rows.model(MODEL)]},
        }
    )


def ask(server: Any, cache: ModelCache | None = None, **way: Any) -> ResolvedModel:
    selector = ModelSelector(**way)
    resolved = server.hold(resolve(selector, SETTINGS, cache or ModelCache(), now=lambda: "2026-01-01T00:00:00+00:00"))
    assert isinstance(resolved, ResolvedModel)
    return resolved


WAYS: list[tuple[dict[str, Any], str, str | None, int, int]] = [
    ({"experiment": "churn", "run_tag": {"stage": "prod"}}, f"models:/{MODEL}", None, 4, 1),
    ({"experiment": "churn", "latest_run": True}, f"models:/{MODEL}", None, 4, 1),
    ({"registered_model": "reg", "alias": "prod"}, "models:/reg/3", "3", 3, 1),
    ({"registered_model": "reg", "version": "3"}, "models:/reg/3", "3", 3, 1),
    ({"uri": "models:/reg@prod"}, "models:/reg/3", "3", 3, 1),
    ({"uri": "models:/reg/3"}, "models:/reg/3", "3", 3, 1),
    ({"uri": f"models:/{MODEL}"}, f"models:/{MODEL}", None, 3, 1),
    ({"uri": f"runs:/{RUN}/model"}, f"models:/{MODEL}", None, 3, 1),
]


@pytest.mark.parametrize(("way", "uri", "version", "cold", "warm"), WAYS)
def test_every_way_ends_at_an_immutable_uri(
    answers: Any, rows: Any, way: dict[str, Any], uri: str, version: str | None, cold: int, warm: int
) -> None:
    server, cache = server_of(answers, rows), ModelCache()
    resolved = ask(server, cache, **way)
    assert len(server.asked) == cold
    assert (resolved.uri, resolved.version, resolved.model_id) == (uri, version, MODEL)
    assert (resolved.run_id, resolved.experiment_id, resolved.git_commit) == (RUN, "7", "c0ffee")
    assert resolved.source_uri == STORE + "/"
    assert resolved.name == ("reg" if version else "model")
    assert resolved.run_url == f"http://mlflow:5000/#/experiments/7/runs/{RUN}"
    assert ask(server, cache, **way) == resolved
    assert len(server.asked) == warm
    server.hold(verify(resolved))


def test_result_crosses_a_process_border(answers: Any, rows: Any) -> None:
    resolved = ask(server_of(answers, rows), uri="models:/reg/3")
    assert ResolvedModel(**resolved.to_dict()) == resolved


@pytest.mark.parametrize("uri", [f"runs:/{RUN}/model", f"models:/{MODEL}"])
def test_deleted_run_is_not_found(answers: Any, rows: Any, uri: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"run {RUN} is deleted; restore it"):
        ask(server_of(answers, rows, stage="deleted"), uri=uri)


def test_registered_version_outlives_its_run(answers: Any, rows: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        resolved = ask(server_of(answers, rows, stage="deleted"), uri="models:/reg/3")
    assert "is deleted in MLflow" in caplog.text
    server = server_of(answers, rows)
    server.answers["runs/get"] = Response(403, b"Permission denied", "text/plain")
    assert ask(server, uri="models:/reg/3").git_commit is None
    server.hold(verify(resolved))


def test_version_given_again_is_another_model(answers: Any, rows: Any) -> None:
    server, cache = server_of(answers, rows), ModelCache()
    ask(server, cache, uri="models:/reg/3")
    server.answers["model-versions/get"] = version_row(creation_timestamp=6)
    server.answers["model-versions/get-artifact"] = MLMODEL + b"more: 1\n"
    assert (
        len({ask(server, cache, uri="models:/reg/3").digest, ask(server, ModelCache(), uri="models:/reg@prod").digest})
        == 1
    )


@pytest.mark.parametrize(
    ("source", "uri", "model_id"),
    [
        ("s3://bucket/1/abc/artifacts/b", "s3://bucket/1/abc/artifacts/b/", MODEL),
        ("models:/other/9", "s3://real/place/", MODEL),
        ("models:/m-" + "9" * 32, "s3://real/place/", "m-" + "9" * 32),
    ],
)
def test_where_a_version_lies(answers: Any, rows: Any, source: str, uri: str, model_id: str) -> None:
    server = server_of(answers, rows)
    server.answers["model-versions/get"] = version_row(source=source)
    server.answers["get-download-uri"] = {"artifact_uri": "s3://real/place"}
    resolved = ask(server, uri="models:/reg/3")
    assert (resolved.source_uri, resolved.model_id) == (uri, model_id)


def test_missing_alias_lists_what_there_is(answers: Any, rows: Any) -> None:
    server = server_of(answers, rows)
    server.answers["registered-models/alias"] = rows.error(400, "INVALID_PARAMETER_VALUE", "alias nope not found.")
    server.answers["registered-models/get"] = {
        "registered_model": {"aliases": [{"alias": "prod", "version": "3"}], "latest_versions": [{"version": "4"}]}
    }
    with pytest.raises(
        ModelNotFoundError, match=r"'reg' alias 'nope' does not exist; .* prod → 3 .* newest version is 4"
    ):
        ask(server, registered_model="reg", alias="nope")


def test_version_that_is_not_ready_is_refused(answers: Any, rows: Any) -> None:
    server = server_of(answers, rows)
    server.answers["model-versions/get"] = version_row(status="PENDING_REGISTRATION")
    with pytest.raises(ModelNotFoundError, match="PENDING_REGISTRATION, not READY"):
        ask(server, uri="models:/reg/3")


def test_runs_uri_of_an_mlflow_2_run_needs_no_log_entry(answers: Any, rows: Any) -> None:
    server = answers({"runs/get": {"run": rows.run()}, "get-artifact": rows.mlmodel})
    resolved = ask(server, uri=f"runs:/{RUN}/some/where")
    assert (resolved.uri, resolved.name) == (f"runs:/{RUN}/some/where", "where")
    assert resolved.source_uri == f"mlflow-artifacts:/7/{RUN}/artifacts/some/where/"
    server.hold(verify(resolved))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"artifacts/files": MLMODEL + b"x: 1\n"}, "is another one"),
        ({"artifacts/files": Response(404, b"{}")}, "is gone"),
        ({"runs/get": Response(404, b"{}")}, "is gone"),
    ],
)
def test_pinned_model_that_changed_is_never_substituted(
    answers: Any, rows: Any, change: dict[str, Any], words: str
) -> None:
    server = server_of(answers, rows)
    resolved = ask(server, uri=f"models:/{MODEL}")
    server.answers |= change
    with pytest.raises(ModelChangedError, match=words):
        server.hold(verify(resolved))


def test_run_deleted_after_pinning_fails(answers: Any, rows: Any) -> None:
    resolved = ask(server_of(answers, rows), experiment="churn", run_tag={"stage": "prod"})
    with pytest.raises(ModelChangedError, match="was deleted after this task had pinned"):
        server_of(answers, rows, stage="deleted").hold(verify(resolved))
    with pytest.raises(ModelChangedError, match="is another one"):
        server_of(answers, rows).hold(verify(dataclasses.replace(resolved, digest="sha256:0")))


def test_no_permission_is_told_as_such(answers: Any, rows: Any) -> None:
    server = server_of(answers, rows)
    server.answers["experiments/get-by-name"] = Response(
        403, b"Permission denied", "text/plain", "http://mlflow:5000/x"
    )
    with pytest.raises(AccessDeniedError, match=r"experiment 'churn': .* grant"):
        ask(server, experiment="churn", latest_run=True)
