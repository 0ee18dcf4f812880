"""From what a model returned to JSON and to tensors."""

from __future__ import annotations

import datetime
import decimal
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlops_runtime.errors import ModelError
from mlops_runtime.serving.answers import to_predictions, to_tensors
from mlops_runtime.serving.replies import json_bytes
from mlops_runtime.signature import Signature


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (np.array([1.5, np.nan, np.inf]), [1.5, None, None]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", None]), ["a", None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.DataFrame({"a": [1, 2], 0: ["x", "y"]}), [{"a": 1, "0": "x"}, {"a": 2, "0": "y"}]),
        (pd.DataFrame({"at": pd.to_datetime(["2026-01-02", None])}), [{"at": "2026-01-02T00:00:00"}, {"at": None}]),
        (np.array(["2026-01-02", "NaT"], dtype="datetime64[ns]"), ["2026-01-02T00:00:00", None]),
        (pd.DataFrame({"a": [[1], {"b": np.float32(2)}]}), [{"a": [1]}, {"a": {"b": 2.0}}]),
        ({"a": np.array([1]), "b": [True]}, {"a": [1], "b": [True]}),
        ([np.int64(1), decimal.Decimal("1.5"), datetime.date(2026, 1, 2), b"\xff"], [1, 1.5, "2026-01-02", "/w=="]),
        ("text", "text"),
        (7, 7),
    ],
)
def test_predictions(result: Any, expected: Any) -> None:
    assert json.loads(json_bytes(to_predictions(result))) == expected


@pytest.mark.parametrize("result", [object(), [object()], pd.DataFrame({"a": [object()]})])
def test_what_is_no_json_is_the_models_fault(result: Any) -> None:
    with pytest.raises(ModelError, match="the model returned a object"):
        to_predictions(result)


@pytest.mark.parametrize(
    ("result", "name", "datatype", "shape", "data"),
    [
        (np.array([1.5, 2]), "output-0", "FP64", [2], [1.5, 2.0]),
        (np.array([[1, 2]], dtype="int32"), "output-0", "INT32", [1, 2], [1, 2]),
        (np.array([True]), "output-0", "BOOL", [1], [True]),
        (np.array([0.5], dtype="float16"), "output-0", "FP32", [1], [0.5]),
        (["a", "b"], "output-0", "BYTES", [2], ["a", "b"]),
        (pd.Series(["a", None]), "output-0", "BYTES", [2], ["a", None]),
        ([1, 2], "output-0", "INT64", [2], [1, 2]),
        (pd.Series([1, 2], dtype="Int64"), "output-0", "INT64", [2], [1, 2]),
        (pd.DataFrame({"at": pd.to_datetime(["2026-01-02"])}), "at", "BYTES", [1], ["2026-01-02T00:00:00"]),
        ({"a": [1.0]}, "a", "FP64", [1], [1.0]),
    ],
)
def test_tensors(result: Any, name: str, datatype: str, shape: list[int], data: list[Any]) -> None:
    (tensor,) = to_tensors(result, Signature())
    if name == "at":
        assert tensor["data"][0].startswith("2026-01-02T00:00:00")
        data = tensor["data"]
    assert tensor == {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_missing_numbers_are_null() -> None:
    for values in (pd.Series([1, None], dtype="Int64"), np.array([1.0, np.nan])):
        (tensor,) = to_tensors(values, Signature())
        assert json.loads(json_bytes(tensor))["data"] == [1.0, None]
        assert tensor["datatype"] == "FP64"


def test_signature_names_its_only_output() -> None:
    (tensor,) = to_tensors(np.array([1]), Signature(outputs=(("churned", "long"),)))
    assert tensor["name"] == "churned"
    assert [t["name"] for t in to_tensors(pd.DataFrame({"a": [1], "b": [2]}), Signature())] == ["a", "b"]


def test_rows_of_different_lengths_become_text() -> None:
    (tensor,) = to_tensors([[1], [1, 2]], Signature())
    assert (tensor["datatype"], tensor["shape"], tensor["data"]) == ("BYTES", [2], ["[1]", "[1, 2]"])


def test_single_value_is_no_tensor() -> None:
    with pytest.raises(ModelError, match="open inference needs"):
        to_tensors("text", Signature())
