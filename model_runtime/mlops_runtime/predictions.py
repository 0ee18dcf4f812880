"""Turn what a model returned into named Arrow columns. Pure.

One value per row: ``prediction``. Several: ``prediction_0``, ``prediction_1``, …. A data frame keeps its own column
names, prefixed with ``prediction_`` where they meet a kept column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import ModelError
from mlops_runtime.signature import Signature, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = "prediction"


def name_predictions(result: Any, rows: int, taken: Collection[str]) -> list[tuple[str, pa.Array]]:
    """Return ``(name, values)`` for each predicted column.

    :param rows: how many rows the model was given.
    :param taken: names of the kept columns.
    :raises ModelError: the result has another length, or a shape or type that is no column.
    """
    columns = []
    for name, values in _split(result, taken):
        if len(values) != rows:
            raise ModelError(
                f"the model returned {len(values)} predictions for {rows} rows; score needs one per row, in order"
            )
        columns.append((name, _to_arrow(values)))
    if not columns:
        raise ModelError("the model returned no column at all; score needs one prediction per row")
    return columns


def _split(result: Any, taken: Collection[str]) -> Iterable[tuple[str, Any]]:
    import numpy as np
    import pandas as pd

    if hasattr(result, "toarray"):  # scipy's sparse matrices, which need not be installed
        result = result.toarray()
    if isinstance(result, pd.DataFrame):
        return _split_frame(result, taken)
    if isinstance(result, dict):
        return [(_free(str(name), taken), np.asarray(values)) for name, values in result.items()]
    if isinstance(result, pd.Series):
        return [(_free(_NAME, taken), result)]
    if not isinstance(result, np.ndarray):
        if not isinstance(result, (list, tuple)):
            raise ModelError(
                f"the model returned a {type(result).__name__}; score needs an array, a series, a data frame or a list"
            )
        return [(_free(_NAME, taken), list(result))]
    return _split_array(result, taken)


def _split_array(array: Any, taken: Collection[str]) -> Iterable[tuple[str, Any]]:
    if array.ndim == 0:
        raise ModelError("the model returned a single number; score needs one prediction per row")
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return [(_free(_NAME, taken), array.reshape(-1))]
    if array.ndim == 2:
        return [(_free(f"{_NAME}_{index}", taken), array[:, index]) for index in range(array.shape[1])]
    return [(_free(_NAME, taken), array.tolist())]


def _split_frame(frame: Any, taken: Collection[str]) -> Iterable[tuple[str, Any]]:
    names = [str(name) for name in frame.columns]
    if list(frame.columns) == list(range(len(names))):
        names = [_NAME] if len(names) == 1 else [f"{_NAME}_{index}" for index in range(len(names))]
    return [(_free(name, taken), frame.iloc[:, index]) for index, name in enumerate(names)]


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name = f"{_NAME}_{name}"
    return name


def _to_arrow(values: Any) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values = values.tolist()
    try:
        array = pa.array(values, from_pandas=not isinstance(values, np.ndarray) or values.dtype.kind == "O")
    except (pa.ArrowException, TypeError, ValueError) as problem:
        raise ModelError(
            f"the model's predictions cannot be stored as a column: {problem}; return plain numbers, text or lists"
        ) from problem
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def fit_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Cast a later batch to the schema that the first one set.

    :raises ModelError: names or types differ so that values would be lost.
    """
    import pyarrow as pa

    if batch.schema.equals(schema):
        return batch
    if batch.schema.names != schema.names:
        raise ModelError(
            f"the model returned columns {batch.schema.names}, earlier {schema.names}; it must return the same for "
            "every batch"
        )
    arrays = []
    for field, values in zip(schema, batch.columns, strict=True):
        try:
            arrays.append(values.cast(field.type))
        except pa.ArrowException as problem:
            raise ModelError(
                f"column {field.name!r} was {field.type} in earlier batches and is {values.type} now ({problem}); "
                "make the model return one type, or raise --batch-rows"
            ) from problem
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def join_predictions(keys: pa.RecordBatch, named: list[tuple[str, pa.Array]], signature: Signature) -> pa.RecordBatch:
    """Put predictions beside the kept columns; one of nothing but missing values takes its type from the signature."""
    import pyarrow as pa

    declared = dict(signature.outputs)
    arrays = []
    for name, values in named:
        kind = declared.get(name) or (signature.outputs[0][1] if len(signature.outputs) == 1 else "")
        arrays.append(values.cast(arrow_type(kind)) if kind and pa.types.is_null(values.type) else values)
    return pa.RecordBatch.from_arrays([*keys.columns, *arrays], [*keys.schema.names, *(name for name, _ in named)])


def empty_predictions(signature: Signature) -> list[tuple[str, pa.Array]]:
    """Return the columns that the signature promises, for where there is no row at all to ask the model with."""
    import pyarrow as pa

    single = len(signature.outputs) <= 1
    outputs = signature.outputs or (("", ""),)
    return [
        (name or (_NAME if single else f"{_NAME}_{index}"), pa.array([], arrow_type(kind) if kind else pa.null()))
        for index, (name, kind) in enumerate(outputs)
    ]
