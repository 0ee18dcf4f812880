"""From a request's rows to what the model is given: columns of the signature's types, or the tensor it asks for. Pure.

Types follow ``signature``, with what JSON cannot say added: its numbers have one type, so an integral number passes as
an integer and any number as ``float``; ISO 8601 text passes as ``datetime`` and base64 text as ``binary``, as in
MLflow's server.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import InputError
from mlops_runtime.inputs import to_model_input
from mlops_runtime.serving.payload import Payload, transpose
from mlops_runtime.signature import ColumnSpec, Signature, arrow_type, check_column, coerce

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = "request"
_INTEGERS, _FLOATS = ("integer", "long"), ("float", "double")


def build_model_input(payload: Payload, signature: Signature) -> tuple[Any, int]:
    """Return what ``predict`` gets, and the number of rows.

    :raises InputError: a column is missing, or a value is not what the signature asks for; the message names it.
    """
    if signature.hinted:
        if payload.items is None:
            raise InputError(f"{_PLACE}: this model takes a list with one item per row; send inputs or instances")
        return list(payload.items), len(payload.items)
    if signature.tensor:
        return _build_tensor(payload, *signature.tensor)
    if signature.tensors:
        return _build_named_tensors(payload, signature)
    if signature.columns:
        return _build_columns(payload, signature)
    return _build_unsigned(payload)


def _build_columns(payload: Payload, signature: Signature) -> tuple[Any, int]:
    import pandas as pd
    import pyarrow as pa

    specs, columns = _match(payload, signature)
    typed: dict[str, pa.Array] = {}
    untyped: dict[str, Sequence[Any]] = {}
    for spec in specs:
        values = columns.get(spec.name)
        if values is None:
            check_column(spec, None, _PLACE)
        elif spec.kind:
            typed[spec.name] = read_column(values, spec)
        else:
            untyped[spec.name] = values
    rows = _count_rows({**typed, **untyped})
    frame = to_model_input(pa.RecordBatch.from_pydict(typed), signature)
    if untyped:
        objects = {name: pd.Series(list(values), dtype=object) for name, values in untyped.items()}
        frame = pd.concat([frame, pd.DataFrame(objects)], axis=1)[[*(s.name for s in specs if s.name in columns)]]
    return frame, rows


def _match(payload: Payload, signature: Signature) -> tuple[Sequence[ColumnSpec], Mapping[str, Sequence[Any]]]:
    """Pair the signature's columns with the request's, by name where there are names, else by position."""
    specs, columns = signature.columns, payload.columns
    if columns is not None and signature.named and not _is_unnamed_column(columns, specs, payload):
        return specs, columns
    if columns is not None:
        if len(columns) != len(specs):
            raise InputError(f"{_PLACE}: expected {len(specs)} columns (the model's signature), found {len(columns)}")
        names = [spec.name or name for spec, name in zip(specs, columns, strict=True)]
        values: Sequence[Sequence[Any]] = list(columns.values())
    else:
        names = [spec.name or str(index) for index, spec in enumerate(specs)]
        values = _split_rows(payload.array, len(specs))
    named = [ColumnSpec(name, spec.kind, spec.required) for name, spec in zip(names, specs, strict=True)]
    return named, dict(zip(names, values, strict=True))


def _is_unnamed_column(columns: Mapping[str, Any], specs: Sequence[ColumnSpec], payload: Payload) -> bool:
    """Whether a v2 client sent its only column under a name of its own, as in ``input-0``."""
    import numpy as np

    only = next(iter(columns.values()))
    return len(columns) == len(specs) == 1 and isinstance(only, np.ndarray) and specs[0].name not in columns


def _split_rows(rows: Any, width: int) -> Sequence[Sequence[Any]]:
    import numpy as np

    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InputError(
                f"{_PLACE}: expected a tensor of shape [rows, {width}] (the model's signature), found shape "
                f"{list(rows.shape)}"
            )
        return list(rows.T)
    if width == 1 and not any(isinstance(row, list) for row in rows):
        return [rows]
    return transpose(rows, width)


def _count_rows(columns: Mapping[str, Any]) -> int:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r}: {length}" for name, length in list(lengths.items())[:10])
        raise InputError(f"{_PLACE}: columns must have the same number of rows, found {shown}")
    rows = next(iter(lengths.values()), 0)
    if not rows:
        raise InputError(f"{_PLACE}: holds no row of the model's columns; send at least one")
    return rows


def read_column(values: Sequence[Any], spec: ColumnSpec) -> pa.Array:
    """Give one column of a request the signature's type.

    :raises InputError: the values are of another type, or do not fit.
    """
    import pyarrow as pa

    try:
        found = _infer(values, spec)
        if _is_json_number(found, spec):
            found = found.cast(arrow_type(spec.kind), safe=spec.kind != "float")
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as problem:
        raise InputError(
            f"{_PLACE}: column {spec.name!r}: expected {spec.kind} (the model's signature): {_one_line(problem)}"
        ) from problem
    check_column(spec, found.type, _PLACE)
    return coerce(found, spec, _PLACE)


def _is_json_number(found: pa.Array, spec: ColumnSpec) -> bool:
    """Whether to cast what JSON cannot tell apart. A missing integer is left to ``coerce``, which says more."""
    import pyarrow as pa

    is_number = pa.types.is_floating(found.type) or pa.types.is_integer(found.type)
    return is_number and (spec.kind in _FLOATS or (spec.kind in _INTEGERS and not found.null_count))


def _infer(values: Sequence[Any], spec: ColumnSpec) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise ValueError(f"found a tensor of shape {list(values.shape)}, not one value per row")
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        return pa.array(values)
    if spec.kind == "binary" and any(isinstance(value, str) for value in values):
        values = [value if value is None else _decode(value) for value in values]
    found = pa.array(values, from_pandas=False)
    if spec.kind == "datetime" and pa.types.is_string(found.type):
        return found.cast(pa.timestamp("ns"))
    return found


def _decode(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as problem:
        raise ValueError(f"text for a binary column must be base64: {problem}") from problem


def _build_tensor(payload: Payload, dtype: str, shape: tuple[int, ...]) -> tuple[Any, int]:
    import numpy as np

    if payload.columns is None:
        array = to_array(payload.array, dtype, "input")
    elif len(payload.columns) == 1 and not payload.is_frame:
        array = to_array(next(iter(payload.columns.values())), dtype, "input")
    else:
        _count_rows(payload.columns)
        array = np.stack([to_array(values, dtype, name) for name, values in payload.columns.items()], axis=1)
    if len(shape) == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    _check_shape(array.shape, shape, "input")
    return array, len(array)


def _build_named_tensors(payload: Payload, signature: Signature) -> tuple[Any, int]:
    columns = payload.columns or {}
    if payload.columns is None and len(signature.tensors) == 1:
        columns = {signature.tensors[0][0]: payload.array}
    arrays = {}
    for (name, dtype, shape), spec in zip(signature.tensors, signature.columns, strict=True):
        if name not in columns:
            check_column(spec, None, _PLACE)
            continue
        arrays[name] = to_array(columns[name], dtype, name)
        _check_shape(arrays[name].shape, shape, name)
    return arrays, _count_rows(arrays)


def to_array(values: Any, dtype: str, name: str) -> Any:
    """Return a numpy array of ``dtype``; numbers may widen, and become integers only where nothing is lost.

    :raises InputError: rows have different lengths, or values are of another kind.
    """
    import numpy as np

    try:
        found = np.asarray(values)
        if found.dtype.kind in "OSU" or np.dtype(dtype).kind in "OSU":
            found = np.asarray(values, dtype=object)
            if np.dtype(dtype).kind not in "OSU":
                raise ValueError("found text, null or objects among the values")
            return found
        target = found.astype(dtype)
        lossless = np.dtype(dtype).kind == "f" or bool((target == found).all())
        if (found.dtype.kind == "b") != (np.dtype(dtype).kind == "b") or not lossless:
            raise ValueError(f"found {found.dtype} with values that do not fit")
        return target
    except (ValueError, TypeError, OverflowError) as problem:
        raise InputError(
            f"{_PLACE}: {name!r}: expected a tensor of {dtype} (the model's signature): {_one_line(problem)}"
        ) from problem


def _check_shape(found: tuple[int, ...], wanted: tuple[int, ...], name: str) -> None:
    if len(found) != len(wanted) or any(size not in (-1, there) for size, there in zip(wanted, found, strict=True)):
        raise InputError(
            f"{_PLACE}: {name!r}: expected shape {list(wanted)} (the model's signature, -1: any), found {list(found)}"
        )


def _build_unsigned(payload: Payload) -> tuple[Any, int]:
    """Without a signature the model gets what MLflow's server would hand it."""
    import numpy as np
    import pandas as pd

    try:
        if payload.columns is None:
            return (pd.DataFrame(payload.array) if payload.is_frame else np.asarray(payload.array)), len(payload.array)
        rows = _count_rows(payload.columns)
        if payload.is_frame:
            return pd.DataFrame(payload.columns), rows
        return {name: np.asarray(values) for name, values in payload.columns.items()}, rows
    except (ValueError, TypeError, OverflowError) as problem:
        raise InputError(f"{_PLACE}: rows do not make a table: {_one_line(problem)}") from problem


def _one_line(problem: BaseException) -> str:
    return " ".join(str(problem).split())[:300]
