"""A model's signature decides types; nothing is rounded, wrapped or guessed."""

from __future__ import annotations

import datetime
import decimal
import json

import pyarrow as pa
import pytest
from mlops_runtime.errors import InputError, ModelError
from mlops_runtime.signature import ColumnSpec, Signature, arrow_type, check_column, coerce, parse_signature


def _mlmodel(*inputs: object) -> dict[str, object]:
    return {"signature": {"inputs": json.dumps(inputs), "outputs": '[{"type": "long", "name": "label"}]'}}


def test_named_columns() -> None:
    signature = parse_signature(
        _mlmodel({"type": "long", "name": "age"}, {"type": "string", "name": "city", "required": False})
    )
    assert signature.columns == (ColumnSpec("age", "long"), ColumnSpec("city", "string", required=False))
    assert signature.named
    assert signature.outputs == (("label", "long"),)


def test_unnamed_columns_and_tensors() -> None:
    assert not parse_signature(_mlmodel({"type": "double"}, {"type": "double"})).named
    tensor = parse_signature(_mlmodel({"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}))
    assert tensor.tensor == ("float64", (-1, 4))
    assert parse_signature({}) == Signature()


def test_unreadable_signature() -> None:
    with pytest.raises(ModelError, match="log the model again"):
        parse_signature({"signature": {"inputs": "{"}})


@pytest.mark.parametrize(
    ("kind", "values", "found"),
    [
        ("double", [1, 2], pa.int64()),
        ("double", [1.5, None], pa.float32()),
        ("double", [decimal.Decimal("1.50")], pa.decimal128(5, 2)),
        ("long", [1], pa.int32()),
        ("integer", [1], pa.uint16()),
        ("float", [1.5], pa.float32()),
        ("string", ["a", None], pa.dictionary(pa.int32(), pa.string())),
        ("datetime", [datetime.date(2026, 1, 2)], pa.date32()),
        ("boolean", [True, None], pa.bool_()),
        ("double", [None], pa.null()),
    ],
)
def test_lossless_conversion(kind: str, values: list[object], found: pa.DataType) -> None:
    column = pa.array(values, found)
    spec = ColumnSpec("x", kind)
    check_column(spec, column.type, "f.parquet")
    coerced = coerce(column, spec, "f.parquet")
    assert coerced.type == arrow_type(kind)
    assert coerced.to_pylist() == column.cast(arrow_type(kind)).to_pylist()
    assert coerced.null_count == column.null_count


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("double", pa.string()),
        ("long", pa.float64()),
        ("integer", pa.int64()),
        ("float", pa.float64()),
        ("string", pa.int64()),
        ("boolean", pa.int64()),
        ("datetime", pa.timestamp("us", tz="UTC")),
        ("long", pa.uint64()),
    ],
)
def test_mistyped_column_names_column_types_and_file(kind: str, found: pa.DataType) -> None:
    with pytest.raises(InputError) as caught:
        check_column(ColumnSpec("x", kind), found, "f.parquet")
    assert all(word in str(caught.value) for word in ("f.parquet", "'x'", f"expected {kind}", f"found {found}"))


def test_missing_column() -> None:
    with pytest.raises(InputError, match=r"f\.csv: column 'x' is missing; expected long"):
        check_column(ColumnSpec("x", "long"), None, "f.csv")
    check_column(ColumnSpec("x", "long", required=False), None, "f.csv")


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        coerce(pa.array([2**53 + 1]), ColumnSpec("x", "double"), "f")
    with pytest.raises(InputError, match="found 1 missing; integers cannot be missing"):
        coerce(pa.array([1, None]), ColumnSpec("x", "long"), "f")
