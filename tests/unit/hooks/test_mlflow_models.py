"""From a run to one model with a digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from airflow_mlops_provider.exceptions import AmbiguousModelError, ModelNotFoundError, TransientError
from airflow_mlops_provider.hooks.mlflow_api import Response
from airflow_mlops_provider.hooks.mlflow_cache import ModelCache
from airflow_mlops_provider.hooks.mlflow_models import field_of, model_of_run
from airflow_mlops_provider.hooks.mlflow_runs import HISTORY_TAG, Run, read_run

RUN = "a" * 32
M1, M2, M3 = ("m-" + digit * 32 for digit in "123")


def history(*paths: str) -> dict[str, str]:
    entries = [{"artifact_path": path, "model_uuid": f"{path}-{index}"} for index, path in enumerate(paths)]
    return {HISTORY_TAG: json.dumps(entries)}


def resolve(server: Any, run: Run, wanted: str | None = None, cache: ModelCache | None = None) -> Any:
    return server.hold(model_of_run(run, wanted, cache or ModelCache(), subject="experiment 'churn'"))


def test_one_logged_model_costs_its_name_and_its_file_once(answers: Any, rows: Any) -> None:
    server = answers({"artifacts/files": rows.mlmodel, M1: {"model": rows.model(M1)}})
    run, cache = read_run(rows.run(models=[M1])), ModelCache()
    uri, facts = resolve(server, run, cache=cache)
    assert server.asked == [f"GET logged-models/{M1}", f"GET logged-models/{M1}/artifacts/files"]
    assert (uri, facts.name, facts.model_id) == (f"models:/{M1}", "model", M1)
    assert facts.source_uri == f"mlflow-artifacts:/7/models/{M1}/artifacts/"
    assert facts.digest == "sha256:" + hashlib.sha256(rows.mlmodel).hexdigest()
    assert resolve(server, run, cache=cache) == (uri, facts)
    assert server.asked == []
    resolve(server, run, "model", cache=cache)
    assert server.asked == []


@pytest.mark.parametrize(
    ("models", "old", "wanted", "outcome"),
    [
        ([(M1, "a"), (M2, "b"), (M3, "c")], (), "b", f"models:/{M2}"),
        ([(M1, "a"), (M2, "b")], (), M2, f"models:/{M2}"),
        ([(M1, "a")], (), "a", f"models:/{M1}"),
        ([(M1, "a"), (M2, "b")], (), None, AmbiguousModelError),
        ([(M1, "a"), (M2, "a")], (), "a", AmbiguousModelError),
        ([(M1, "a")], (), "b", ModelNotFoundError),
        ([(M1, "a")], ("b",), "b", f"runs:/{RUN}/b"),
        ([], ("model",), None, f"runs:/{RUN}/model"),
        ([], ("deep/er",), None, f"runs:/{RUN}/deep/er"),
        ([], ("a", "b"), "b", f"runs:/{RUN}/b"),
        ([], ("a", "a"), None, f"runs:/{RUN}/a"),
        ([], ("a", "b"), None, AmbiguousModelError),
        ([], ("a",), "b", ModelNotFoundError),
        ([], (), None, ModelNotFoundError),
    ],
)
def test_which_model_of_a_run(
    answers: Any, rows: Any, models: list[tuple[str, str]], old: tuple[str, ...], wanted: str | None, outcome: Any
) -> None:
    listed = {"models": [rows.model(one, name) for one, name in models]}
    own = {one: {"model": rows.model(one, name)} for one, name in models}
    server = answers(
        {"artifacts/files": rows.mlmodel, "get-artifact": rows.mlmodel, "logged-models/search": listed, **own}
    )
    run = read_run(rows.run(models=[one for one, _ in models], tags=history(*old) if old else {}))
    if isinstance(outcome, str):
        assert resolve(server, run, wanted)[0] == outcome
        return
    with pytest.raises(outcome) as caught:
        resolve(server, run, wanted)
    message = str(caught.value)
    assert message.startswith(f"experiment 'churn': run {RUN} ")
    assert all(name in message for _, name in models)
    assert all(path in message for path in (() if models else old))


def test_path_logged_twice_is_another_model_than_before(answers: Any, rows: Any) -> None:
    cache = ModelCache()
    server = answers({"get-artifact": rows.mlmodel})
    resolve(server, read_run(rows.run(tags=history("a"))), cache=cache)
    resolve(server, read_run(rows.run(tags=history("a", "a"))), cache=cache)
    assert server.asked == ["GET /get-artifact"]


def test_models_out_of_sight_hint_at_permission(answers: Any, rows: Any) -> None:
    server = answers({"logged-models/search": {}})
    with pytest.raises(ModelNotFoundError, match="lacks READ permission"):
        resolve(server, read_run(rows.run(models=[M1, M2])))
    with pytest.raises(ModelNotFoundError, match="lacks READ permission"):
        resolve(server, read_run(rows.run()))


@pytest.mark.parametrize("broken", ["not json", "{}", "[1]", '"x"', '[{"artifact_path": ""}]'])
def test_broken_history_is_no_model(answers: Any, rows: Any, broken: str) -> None:
    with pytest.raises(ModelNotFoundError, match="has no model; log one"):
        resolve(answers({}), read_run(rows.run(tags={HISTORY_TAG: broken})))


@pytest.mark.parametrize(
    ("status", "words"),
    [("LOGGED_MODEL_PENDING", "not completely uploaded"), ("LOGGED_MODEL_UPLOAD_FAILED", "failed to upload")],
)
def test_unfinished_upload_is_no_model(answers: Any, rows: Any, status: str, words: str) -> None:
    server = answers({M1: {"model": rows.model(M1, status=status)}})
    with pytest.raises(ModelNotFoundError, match=words):
        resolve(server, read_run(rows.run(models=[M1])))


def test_missing_file_is_permanent(answers: Any, rows: Any) -> None:
    server = answers({M1: {"model": rows.model(M1)}})
    with pytest.raises(ModelNotFoundError, match="has no MLmodel file"):
        resolve(server, read_run(rows.run(models=[M1])))


def test_500_for_a_file_is_told_apart_by_a_listing(answers: Any, rows: Any) -> None:
    run = read_run(rows.run(tags=history("a")))
    broken = Response(500, b"Internal Server Error", "text/plain")
    absent = answers({"get-artifact": broken, "artifacts/list": {"files": [{"path": "a/model.pkl"}]}})
    with pytest.raises(ModelNotFoundError, match="has no MLmodel file"):
        resolve(absent, run)
    present = answers({"get-artifact": broken, "artifacts/list": {"files": [{"path": "a/MLmodel"}]}})
    with pytest.raises(TransientError, match="able to read its artifact store"):
        resolve(present, run)


def test_file_that_is_no_mlmodel_is_refused(answers: Any, rows: Any) -> None:
    server = answers({"get-artifact": b"hello: world\n"})
    with pytest.raises(ModelNotFoundError, match="lists no flavors"):
        resolve(server, read_run(rows.run(tags=history("a"))))


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"artifact_path: s3://b/x", "s3://b/x"),
        (b"artifact_path: 'quoted x'", None),
        (b"  artifact_path: nested", None),
        (b"", None),
    ],
)
def test_field_of_reads_plain_lines_only(line: bytes, value: str | None) -> None:
    assert field_of(b"a: 1\n" + line + b"\nflavors: {}\n", "artifact_path") == value
