"""`mlops-runtime serve` as a process, with models of four flavours from a real MLflow server.

Each server is started once: importing mlflow is what takes time.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow_servers import MLflowServer
from mlops_runtime.model import digest_of
from runtime_server import RuntimeServer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.integration

_NAME = "cancer"
#: A person's own model: types of every kind, and ways to go wrong that its input chooses.
_CLERK = """
import os, time
import mlflow, pandas as pd

class Clerk(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if os.environ.get("TEST_SLOW_FIRST") and not getattr(self, "warm", False):
            time.sleep(float(os.environ["TEST_SLOW_FIRST"]))
            self.warm = True
        first = model_input["name"].iloc[0]
        if first == "raise":
            raise RuntimeError("the clerk is ill")
        if first == "leave":
            raise SystemExit(7)
        if first == "object":
            return [object()]
        if str(first).startswith("sleep "):
            time.sleep(float(first.split()[1]))
        factor = (params or {}).get("factor", 1)
        return pd.DataFrame({
            "score": model_input["age"] * factor + model_input["income"].fillna(0.0),
            "label": model_input["name"].str.upper(),
            "at": model_input["since"],
            "kinds": [",".join(map(str, model_input.dtypes))] * len(model_input),
        })

mlflow.models.set_model(Clerk())
"""
_ROWS = [
    {"age": 41, "income": 1.5, "name": "anna", "since": "2026-01-02T03:04:05", "member": True},
    {"age": 17, "income": None, "name": "björn", "since": "2025-12-31", "member": False},
]


@dataclass(frozen=True)
class Logged:
    """A model on the MLflow server and what it says in process."""

    uri: str
    run_id: str
    directory: Path
    digest: str
    rows: pd.DataFrame
    expected: Any


@pytest.fixture(scope="module")
def tracking(mlflow3_server: MLflowServer) -> Iterator[str]:
    before = dict(os.environ)
    os.environ["MLFLOW_TRACKING_URI"] = mlflow3_server.url
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    yield mlflow3_server.url
    os.environ.clear()
    os.environ.update(before)


def _log(flavour: Any, folder: Path, rows: pd.DataFrame, **arguments: Any) -> Logged:
    import mlflow
    from mlflow.artifacts import download_artifacts

    mlflow.set_experiment("serving")
    with mlflow.start_run() as run:
        info = flavour.log_model(name="model", pip_requirements=["numpy"], **arguments)
    directory = Path(download_artifacts(info.model_uri, dst_path=str(folder)))
    expected = mlflow.pyfunc.load_model(str(directory)).predict(rows)
    return Logged(info.model_uri, run.info.run_id, directory, digest_of(directory), rows, expected)


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.Series]:
    features, target = load_breast_cancer(return_X_y=True, as_frame=True)
    return features[["mean radius", "mean texture", "mean area"]], target


@pytest.fixture(scope="module")
def logged(
    tracking: str, data: tuple[pd.DataFrame, pd.Series], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Logged]:
    import lightgbm
    import mlflow
    import xgboost
    from mlflow.models import infer_signature

    features, target = data
    rows = features.iloc[10:14].reset_index(drop=True)
    folder = tmp_path_factory.mktemp("models")

    def signed(model: Any, method: str = "predict") -> dict[str, Any]:
        return {
            "signature": infer_signature(features, getattr(model, method)(features)),
            "input_example": features.head(2),
        }

    linear = LogisticRegression(max_iter=5000).fit(features, target)
    boosted = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(features, target)
    light = lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1).fit(features, target)
    tensor = LogisticRegression(max_iter=5000).fit(features.to_numpy(), target)
    return {
        "sklearn": _log(mlflow.sklearn, folder / "a", rows, sk_model=linear, pyfunc_predict_fn="predict_proba",
                        **signed(linear, "predict_proba")),
        "xgboost": _log(mlflow.xgboost, folder / "b", rows, xgb_model=boosted, **signed(boosted)),
        "lightgbm": _log(mlflow.lightgbm, folder / "c", rows, lgb_model=light, **signed(light)),
        "tensor": _log(mlflow.sklearn, folder / "d", rows.to_numpy(), sk_model=tensor,
                       signature=infer_signature(features.to_numpy(), tensor.predict(features.to_numpy()))),
    }  # fmt: skip


@pytest.fixture(scope="module")
def clerk(tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    folder = tmp_path_factory.mktemp("clerk")
    code = folder / "clerk.py"
    code.write_text(_CLERK)
    columns = [
        ColSpec("long", "age"), ColSpec("double", "income"), ColSpec("string", "name"), ColSpec("datetime", "since"),
        ColSpec("boolean", "member", required=False),
    ]  # fmt: skip
    signature = ModelSignature(inputs=Schema(columns), params=ParamSchema([ParamSpec("factor", "long", 1)]))
    rows = pd.DataFrame(_ROWS)
    rows["since"] = pd.to_datetime(rows["since"], format="ISO8601")
    return _log(mlflow.pyfunc, folder, rows, python_model=str(code), signature=signature, input_example=rows.head(1))


@pytest.fixture(scope="module")
def servers(logged: dict[str, Logged], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RuntimeServer]]:
    """All flavours, started at the same time."""
    folder = tmp_path_factory.mktemp("servers")
    running = {
        name: RuntimeServer(folder / name, "--model-dir", str(model.directory), "--model-name", _NAME)
        for name, model in logged.items()
    }
    try:
        for server in running.values():
            server.wait_until_ready()
        yield running
    finally:
        for server in running.values():
            server.process.kill()


@pytest.fixture(scope="module")
def office(clerk: Logged, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """The person's own model, fetched by the server itself."""
    environment = {
        "MODEL_URI": clerk.uri, "MODEL_DIGEST": clerk.digest, "MODEL_NAME": "clerk", "MODEL_VERSION": "7",
        "MODEL_RUN_ID": clerk.run_id, "MLFLOW_TRACKING_URI": tracking, "MLOPS_DRAIN_SECONDS": "1",
    }  # fmt: skip
    with RuntimeServer(tmp_path_factory.mktemp("office"), "--threads", "4", environment=environment) as server:
        yield server


def _values(frame: pd.DataFrame) -> list[list[float]]:
    return frame.to_numpy().tolist()


def _requests(rows: pd.DataFrame) -> dict[str, tuple[str, dict[str, Any]]]:
    """The same rows in every form that the protocols have."""
    records, split = rows.to_dict("records"), {"columns": list(rows.columns), "data": _values(rows)}
    tensors = [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": rows[name].tolist()} for name in rows.columns
    ]
    together = {
        "name": "input-0",
        "shape": list(rows.shape),
        "datatype": "FP64",
        "data": rows.to_numpy().ravel().tolist(),
    }
    v1, v2 = f"/v1/models/{_NAME}:predict", f"/v2/models/{_NAME}/infer"
    return {
        "v1 objects": (v1, {"instances": records}),
        "v1 lists": (v1, {"instances": _values(rows)}),
        "v2 columns": (v2, {"inputs": tensors}),
        "v2 one tensor": (v2, {"id": "42", "inputs": [together]}),
        "dataframe_split": ("/invocations", {"dataframe_split": split}),
        "dataframe_records": ("/invocations", {"dataframe_records": records}),
        "instances": ("/invocations", {"instances": records}),
        "inputs": ("/invocations", {"inputs": rows.to_dict("list")}),
    }


@pytest.mark.parametrize("form", list(_requests(pd.DataFrame({"x": [1.0]}))))
@pytest.mark.parametrize("flavour", ["sklearn", "xgboost", "lightgbm"])
def test_every_protocol_says_what_the_model_says_in_process(
    servers: dict[str, RuntimeServer], logged: dict[str, Logged], flavour: str, form: str
) -> None:
    model = logged[flavour]
    path, body = _requests(model.rows)[form]
    answer = servers[flavour].post(path, body)
    assert answer.status == 200, answer.body
    expected = np.asarray(model.expected).tolist()
    if path.startswith("/v2"):
        (output,) = answer.json["outputs"]
        assert np.reshape(output["data"], output["shape"]).tolist() == expected
        assert answer.json["model_name"] == _NAME
        assert answer.json["id"] == body.get("id", answer.json["id"])
    else:
        assert answer.json == {"predictions": expected}


def test_tensor_signature(servers: dict[str, RuntimeServer], logged: dict[str, Logged]) -> None:
    model, server = logged["tensor"], servers["tensor"]
    rows = model.rows.tolist()
    tensor = {"name": "x", "shape": list(model.rows.shape), "datatype": "FP64", "data": rows}
    answers = [
        server.post(f"/v1/models/{_NAME}:predict", {"instances": rows}).json["predictions"],
        server.post("/invocations", {"inputs": rows}).json["predictions"],
        server.post(f"/v2/models/{_NAME}/infer", {"inputs": [tensor]}).json["outputs"][0]["data"],
    ]
    assert answers == [model.expected.tolist()] * 3
    short = server.post(f"/v1/models/{_NAME}:predict", {"instances": [row[:2] for row in rows]})
    assert (short.status, "expected shape [-1, 3]" in short.json["error"]) == (400, True)
    assert "no input example" in server.log.read_text()


def test_binary_tensors_of_open_inference(servers: dict[str, RuntimeServer], logged: dict[str, Logged]) -> None:
    from kserve import InferInput, InferRequest, InferResponse

    model = logged["sklearn"]
    values = model.rows.to_numpy()
    tensor = InferInput("input-0", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values, binary_data=True)
    body, length = InferRequest(_NAME, [tensor], parameters={"binary_data_output": True}).to_rest()
    headers = {"Inference-Header-Content-Length": str(length), "Content-Type": "application/octet-stream"}
    answer = servers["sklearn"].post(f"/v2/models/{_NAME}/infer", body, headers)
    assert answer.status == 200, answer.body
    given = int(answer.headers["inference-header-content-length"])
    output = InferResponse.from_bytes(answer.body, given).outputs[0]
    assert np.array_equal(output.as_numpy(), model.expected)


def test_own_model_gets_the_types_of_its_signature(office: RuntimeServer) -> None:
    answer = office.post("/v1/models/clerk:predict", {"instances": _ROWS}).json["predictions"]
    kinds = answer[0].pop("kinds")
    assert answer[0] == {"score": 42.5, "label": "ANNA", "at": "2026-01-02T03:04:05"}
    assert answer[1]["label"] == "BJÖRN"
    assert kinds.startswith("int64,float64,")
    assert "datetime64[ns]" in kinds


def test_own_model_as_tensors(office: RuntimeServer) -> None:
    columns = {"age": "INT32", "income": "FP64", "name": "BYTES", "since": "BYTES"}
    inputs = [
        {"name": name, "shape": [2, 1], "datatype": kind, "data": [row[name] for row in _ROWS]}
        for name, kind in columns.items()
    ]
    answer = office.post(
        "/v2/models/clerk/infer", {"inputs": inputs, "outputs": [{"name": "label"}, {"name": "score"}]}
    )
    assert answer.json["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["ANNA", "BJÖRN"]},
        {"name": "score", "datatype": "FP64", "shape": [2], "data": [42.5, 17.0]},
    ]
    assert answer.json["model_version"] == "7"
    assert (
        "unknown" in office.post("/v2/models/clerk/infer", {"inputs": inputs, "outputs": [{"name": "x"}]}).json["error"]
    )


def test_mlflow_params_reach_the_model(office: RuntimeServer) -> None:
    body = {"dataframe_records": _ROWS, "params": {"factor": 2}}
    assert office.post("/invocations", body).json["predictions"][0]["score"] == 83.5


def _with(**values: Any) -> dict[str, Any]:
    return {"instances": [{**_ROWS[0], **values}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", ("is no JSON",)),
        (b"\xff\xfe", ("JSON",)),
        (b"[" * 100_000, ("JSON",)),
        (b"[1]", ("expected a JSON object", "found a list")),
        (b"null", ("found null",)),
        ({}, ("exactly one of", "an empty object")),
        ({"instances": _ROWS, "inputs": _ROWS}, ("exactly one of", "'instances', 'inputs'")),
        ({"instances": []}, ("no row",)),
        ({"instances": "x"}, ("instances: expected a list",)),
        ({"instances": [_ROWS[0], [1]]}, ("partly objects",)),
        ({"instances": [[1, 2.0, "x"]]}, ("row 0", "expected 5 values, found 3")),
        ({"instances": [{"age": 1}]}, ("column 'income' is missing", "double")),
        (_with(age="old"), ("column 'age'", "expected long", "string")),
        (_with(age=1.5), ("column 'age'", "expected long")),
        (_with(age=None), ("column 'age'", "1 missing")),
        (_with(age=2**70), ("column 'age'", "expected long")),
        (_with(age=True), ("column 'age'", "expected long", "bool")),
        (_with(income="1"), ("column 'income'", "expected double", "string")),
        (_with(income=[1.0]), ("column 'income'", "expected double")),
        (_with(name=5), ("column 'name'", "expected string", "int64")),
        (_with(name={"first": "x"}), ("column 'name'", "expected string")),
        (_with(since="yesterday"), ("column 'since'", "expected datetime")),
        (_with(since=1735689600), ("column 'since'", "expected datetime", "int64")),
        (_with(member="yes"), ("column 'member'", "expected boolean")),
        ({"inputs": {**{name: [1] for name in _ROWS[0]}, "age": [1, 2]}}, ("column 'name'",)),
        ({"inputs": {**_ROWS[0], "age": [1, 2]}}, ("same number of rows", "'age': 2")),
        ({"dataframe_split": {"columns": ["age"], "data": [[1, 2]]}}, ("expected 1 values, found 2",)),
        ({"dataframe_split": {"columns": ["age", "age"], "data": [[1, 2]]}}, ("different names",)),
        ({"dataframe_split": [1]}, ("dataframe_split: expected an object",)),
        ({"dataframe_records": [[1]]}, ("dataframe_records: expected a list of objects",)),
        ({"dataframe_records": _ROWS, "params": [1]}, ("params: expected an object",)),
        ({"dataframe_records": _ROWS, "params": {"factor": [1]}}, ("Invalid parameters", "'factor'")),
    ],
)  # fmt: skip
def test_bad_request_is_400_and_says_what_and_where(office: RuntimeServer, body: Any, words: Sequence[str]) -> None:
    for path, key in (("/v1/models/clerk:predict", "error"), ("/invocations", "message")):
        answer = office.post(path, body)
        assert answer.status == 400, answer.body
        assert [word for word in words if word not in answer.json[key]] == [], answer.json
        assert answer.json["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "at least one tensor"),
        ("x", "inputs"),
        ([{"name": "age"}], "inputs.0.shape: Field required"),
        ([{"name": "age", "shape": [2], "datatype": "INT64", "data": [1]}], "input 'age': expected INT64 of shape [2]"),
        ([{"name": "age", "shape": [1], "datatype": "INT64", "data": [1.5]}], "input 'age': expected INT64"),
        ([{"name": "age", "shape": [1], "datatype": "INT8", "data": [300]}], "input 'age': expected INT8"),
        ([{"name": "age", "shape": [1], "datatype": "FP64", "data": ["1"]}], "input 'age': expected FP64"),
        ([{"name": "age", "shape": [1], "datatype": "BOOL", "data": [1]}], "input 'age': expected BOOL"),
        ([{"name": "age", "shape": [0], "datatype": "INT64", "data": []}], "holds no row"),
        ([{"name": "age", "shape": [1], "datatype": "COMPLEX", "data": [1]}], "datatype 'COMPLEX' is unknown"),
        ([{"name": "age", "shape": [1], "datatype": "INT64", "data": [1]}], "column 'income' is missing"),
        ([{"name": "age", "shape": [1], "datatype": "INT64", "data": [1]}] * 2, "different names"),
        ([{"name": "all", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}], "shape [rows, 5]"),
    ],
)  # fmt: skip
def test_bad_tensors_are_400(office: RuntimeServer, inputs: Any, words: str) -> None:
    answer = office.post("/v2/models/clerk/infer", {"inputs": inputs})
    assert (answer.status, words in answer.json["error"]) == (400, True), answer.body


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/models/other:predict", {}, 404),
        ("POST", "/v2/models/other/infer", {}, 404),
        ("GET", "/v1/models/other", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/invocations", {}, 405),
        ("POST", "/invocations", {"Content-Type": "text/csv"}, 415),
        ("POST", "/v1/models/clerk:predict", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/models/clerk:predict", {"Content-Type": "application/json; charset=utf-8"}, 200),
        ("POST", "/v2/repository/models/clerk/unload", {}, 404),
    ],
)  # fmt: skip
def test_other_refusals(office: RuntimeServer, method: str, path: str, headers: dict[str, str], status: int) -> None:
    answer = office.get(path) if method == "GET" else office.post(path, {"instances": _ROWS}, headers)
    assert answer.status == status, answer.body


@pytest.mark.parametrize(("name", "kind"), [("raise", "RuntimeError"), ("leave", "SystemExit"), ("object", "object")])
def test_model_failure_is_500_with_the_id_of_its_log_line(office: RuntimeServer, name: str, kind: str) -> None:
    given = f"test-{name}"
    answer = office.post("/v1/models/clerk:predict", _with(name=name), {"X-Request-ID": given})
    assert (answer.status, answer.json["request_id"], answer.headers["x-request-id"]) == (500, given, given)
    assert kind in answer.json["error"]
    assert "ill" not in answer.body.decode()
    assert "Traceback" not in answer.body.decode()
    line = office.line_of(given)
    assert (line["level"], line["status"], line["model"]) == ("error", 500, "clerk")
    if kind == "RuntimeError":
        (failed,) = [entry for entry in office.lines() if entry.get("request_id") == given and "traceback" in entry]
        assert "RuntimeError: the clerk is ill" in failed["traceback"]
    assert office.is_ready()


def test_one_line_per_request_and_no_payload(office: RuntimeServer) -> None:
    answer = office.post("/v1/models/clerk:predict", _with(name="Xanthippe"))
    line = office.line_of(answer.headers["x-request-id"])
    assert {key: line[key] for key in ("event", "model", "protocol", "path", "rows", "status", "method")} == {
        "event": "request", "model": "clerk", "protocol": "v1", "path": "/v1/models/clerk:predict", "rows": 1,
        "status": 200, "method": "POST",
    }  # fmt: skip
    assert 0 < line["ms"] < 30_000
    datetime.datetime.fromisoformat(line["time"])
    assert "anthippe" not in office.log.read_text().lower()
    # An ID that could forge a log line is replaced.
    forged = office.post("/v1/models/clerk:predict", {"instances": _ROWS}, {"X-Request-ID": 'a b"c'})
    assert forged.headers["x-request-id"].isalnum()


def test_server_says_which_model_answers(office: RuntimeServer, clerk: Logged) -> None:
    expected = {
        "model_uri": clerk.uri, "model_digest": clerk.digest, "model_run_id": clerk.run_id, "model_version": "7",
    }  # fmt: skip
    assert office.get("/v1/models/clerk").json == {"name": "clerk", "ready": True, "parameters": expected}
    metadata = office.get("/v2/models/clerk").json
    assert (metadata["parameters"], metadata["versions"], metadata["platform"]) == (expected, ["7"], "mlflow")
    assert metadata["inputs"][0] == {"name": "age", "datatype": "INT64", "shape": [-1]}
    headers = office.post("/v1/models/clerk:predict", {"instances": _ROWS}).headers
    assert (headers["x-model-uri"], headers["x-model-digest"]) == (clerk.uri, clerk.digest)


def test_model_says_itself_which_it_is(servers: dict[str, RuntimeServer], logged: dict[str, Logged]) -> None:
    """Mounted by KServe without our variables: MLmodel has its ID and its run."""
    model = logged["xgboost"]
    found = servers["xgboost"].get(f"/v2/models/{_NAME}").json["parameters"]
    assert found == {
        "model_uri": model.uri, "model_digest": model.digest, "model_run_id": model.run_id, "model_version": "",
    }  # fmt: skip


def test_mlflow_and_health_paths(office: RuntimeServer) -> None:
    from mlflow.version import VERSION

    assert [office.get(path).body for path in ("/ping", "/health")] == [b"\n", b"\n"]
    assert office.get("/version").body.decode() == VERSION
    assert office.get("/v2/models/clerk/ready").json == {"name": "clerk", "ready": True}
    assert office.get("/v2/health/live").json["live"] is True
    assert office.get("/").json["status"] == "alive"
    assert office.get("/v1/models").json == office.get("/v2/models").json == {"models": ["clerk"]}
    assert office.get("/v2").json["name"] == "mlops-runtime"


def test_metrics(office: RuntimeServer, clerk: Logged) -> None:
    def read() -> dict[str, float]:
        lines = office.get("/metrics").body.decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    before = read()
    office.post("/v1/models/clerk:predict", {"instances": _ROWS})
    office.post("/v1/models/clerk:predict", {"instances": []})
    after = read()
    v1 = 'model="clerk",protocol="v1"'
    grown = {
        'mlops_requests_total{code="200",' + v1 + "}": 1,
        'mlops_requests_total{code="400",' + v1 + "}": 1,
        "mlops_prediction_rows_total{" + v1 + "}": 2,
        "mlops_request_seconds_count{" + v1 + "}": 2,
        'mlops_request_errors_total{code="400",' + v1 + ',reason="InputError"}': 1,
        'request_predict_seconds_count{model_name="clerk"}': 2,
    }
    assert {name: after[name] - before.get(name, 0) for name in grown} == grown
    info = f'{{digest="{clerk.digest}",model="clerk",run_id="{clerk.run_id}",uri="{clerk.uri}",version="7"}}'
    assert after["mlops_model_info" + info] == 1


def test_slow_prediction_does_not_hold_up_the_probe(office: RuntimeServer) -> None:
    thread = threading.Thread(target=office.post, args=("/v1/models/clerk:predict", _with(name="sleep 1.5")))
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    assert office.is_ready()
    assert time.monotonic() - started < 1
    thread.join()
