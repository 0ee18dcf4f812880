"""From a request's rows to what the model is given."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlops_runtime.errors import InputError
from mlops_runtime.serving.features import build_model_input, to_array
from mlops_runtime.serving.payload import Payload, parse_body
from mlops_runtime.signature import ColumnSpec, Signature


def _one(kind: str, required: bool = True) -> Signature:
    return Signature((ColumnSpec("x", kind, required),))


@pytest.mark.parametrize(
    ("kind", "values", "expected", "dtype"),
    [
        ("long", [1, 2], [1, 2], "int64"),
        ("long", [1.0, 2.0], [1, 2], "int64"),
        ("integer", [1, -(2**31)], [1, -(2**31)], "int32"),
        ("double", [1, 2.5], [1.0, 2.5], "float64"),
        ("double", [1, None], [1.0, np.nan], "float64"),
        ("float", [0.1, 2], [np.float32(0.1), 2.0], "float32"),
        ("boolean", [True, False], [True, False], "bool"),
        ("string", ["a", None], ["a", None], None),
        ("datetime", ["2026-01-02", "2026-01-02T03:00"], [pd.Timestamp(2026, 1, 2), pd.Timestamp(2026, 1, 2, 3)],
         "datetime64[ns]"),
        ("binary", [base64.b64encode(b"\0\xff").decode()], [b"\0\xff"], "object"),
    ],
)  # fmt: skip
def test_json_values_get_the_type_of_the_signature(
    kind: str, values: list[Any], expected: list[Any], dtype: str
) -> None:
    frame, rows = build_model_input(parse_body({"instances": [{"x": value} for value in values]}), _one(kind))
    assert rows == len(values)
    assert dtype is None or frame["x"].dtype == dtype
    found = frame["x"].tolist()
    assert [a is b or a == b or (pd.isna(a) and pd.isna(b)) for a, b in zip(found, expected, strict=True)] == [
        True
    ] * rows


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("long", 1.5), ("long", "1"), ("long", None), ("long", 2**63), ("long", True), ("integer", 2**31),
        ("double", "1"), ("double", 2**53 + 1), ("boolean", 1), ("string", 1), ("datetime", "soon"),
        ("datetime", "2026-01-02T03:04:05Z"), ("binary", "not base64!"), ("double", [1]), ("string", {"a": 1}),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_names_its_column(kind: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"column 'x': expected {kind}"):
        build_model_input(parse_body({"instances": [{"x": value}]}), _one(kind))


def test_columns_go_by_name_and_others_are_left_out() -> None:
    signature = Signature((ColumnSpec("b", "long"), ColumnSpec("a", "long"), ColumnSpec("c", "long", required=False)))
    frame, _ = build_model_input(parse_body({"instances": [{"z": 0, "a": 1, "b": 2}]}), signature)
    assert frame.to_dict("list") == {"b": [2], "a": [1]}


def test_lists_go_by_position() -> None:
    signature = Signature((ColumnSpec("b", "long"), ColumnSpec("a", "string")))
    for body in ({"instances": [[1, "x"]]}, {"inputs": [[1, "x"]]}, {"dataframe_split": {"data": [[1, "x"]]}}):
        assert build_model_input(parse_body(body), signature)[0].to_dict("list") == {"b": [1], "a": ["x"]}


def test_unnamed_columns_go_by_position() -> None:
    signature = Signature((ColumnSpec("", "long"), ColumnSpec("", "double")))
    frame, _ = build_model_input(parse_body({"dataframe_records": [{"p": 1, "q": 2}]}), signature)
    assert frame.to_numpy().tolist() == [[1, 2.0]]
    with pytest.raises(InputError, match="expected 2 columns"):
        build_model_input(parse_body({"dataframe_records": [{"p": 1}]}), signature)


def test_only_column_may_have_any_name_as_a_tensor() -> None:
    payload = Payload(columns={"input-0": np.array([1, 2])}, is_frame=True)
    assert build_model_input(payload, _one("double"))[0].to_dict("list") == {"x": [1.0, 2.0]}
    assert build_model_input(parse_body({"instances": [1, 2]}), _one("double"))[0].to_dict("list") == {"x": [1.0, 2.0]}
    with pytest.raises(InputError, match="column 'x' is missing"):
        build_model_input(parse_body({"inputs": {"input-0": [1, 2]}}), _one("double"))


def test_objects_and_arrays_are_left_to_mlflow() -> None:
    signature = Signature((ColumnSpec("tags", ""), ColumnSpec("n", "long")))
    frame, rows = build_model_input(
        parse_body({"instances": [{"n": 1, "tags": ["a"]}, {"n": 2, "tags": []}]}), signature
    )
    assert (rows, list(frame.columns), frame["tags"].tolist()) == (2, ["tags", "n"], [["a"], []])


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, 4]]},
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"any": [[1, 2], [3, 4]]}},
        {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}},
        {"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
    ],
)
def test_tensor(body: Mapping[str, Any]) -> None:
    array, rows = build_model_input(parse_body(body), Signature(tensor=("float64", (-1, 2))))
    assert (array.dtype, array.tolist(), rows) == (np.float64, [[1.0, 2.0], [3.0, 4.0]], 2)


def test_named_tensors() -> None:
    tensors = (("image", "float32", (-1, 2, 2)), ("age", "int64", (-1,)))
    signature = Signature((ColumnSpec("image", ""), ColumnSpec("age", "long")), tensors=tensors)
    image = [[[1, 2], [3, 4]]]
    arrays, rows = build_model_input(parse_body({"inputs": {"image": image, "age": [7]}}), signature)
    assert (rows, arrays["image"].tolist(), arrays["age"].tolist()) == (1, image, [7])
    with pytest.raises(InputError, match=r"'image': expected shape \[-1, 2, 2\]"):
        build_model_input(parse_body({"inputs": {"image": [[1, 2]], "age": [7]}}), signature)
    with pytest.raises(InputError, match="'age' is missing"):
        build_model_input(parse_body({"inputs": {"image": image}}), signature)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([[1], [2, 3]], "float64"), (["1"], "float64"), ([1.5], "int64"), ([True], "float64"), ([1], "bool"),
     ([None], "float32"), ([{"a": 1}], "float64")],
)  # fmt: skip
def test_tensor_values_are_not_guessed(values: list[Any], dtype: str) -> None:
    with pytest.raises(InputError, match=f"expected a tensor of {dtype}"):
        to_array(values, dtype, "input")


def test_type_hint_means_rows_as_they_are() -> None:
    signature = Signature((ColumnSpec("", ""),), hinted=True)
    assert build_model_input(parse_body({"inputs": [{"a": 1}, {"b": 2}]}), signature) == ([{"a": 1}, {"b": 2}], 2)
    assert build_model_input(parse_body({"instances": ["x"]}), signature) == (["x"], 1)
    with pytest.raises(InputError, match="send inputs or instances"):
        build_model_input(parse_body({"inputs": {"a": [1]}}), signature)


def test_without_a_signature_the_model_gets_what_mlflow_would_give() -> None:
    frame, _ = build_model_input(parse_body({"instances": [{"a": 1}]}), Signature())
    array, _ = build_model_input(parse_body({"instances": [[1, 2]]}), Signature())
    arrays, _ = build_model_input(parse_body({"inputs": {"a": [1, 2]}}), Signature())
    split, _ = build_model_input(parse_body({"dataframe_split": {"data": [[1]]}}), Signature())
    assert isinstance(frame, pd.DataFrame)
    assert isinstance(array, np.ndarray)
    assert {name: value.tolist() for name, value in arrays.items()} == {"a": [1, 2]}
    assert isinstance(split, pd.DataFrame)
    with pytest.raises(InputError, match="do not make a table"):
        build_model_input(parse_body({"instances": [[1], [1, 2]]}), Signature())
