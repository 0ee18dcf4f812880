"""What a client sent, whatever the protocol: named columns, or an array. Pure.

KServe's v1 and MLflow's ``/invocations`` share one parser: both know ``instances`` and ``inputs``, and MLflow's
``dataframe_split`` and ``dataframe_records`` do no harm in v1. Open inference (v2) sends typed tensors.
https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ (3.17),
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import InputError

if TYPE_CHECKING:
    from kserve import InferInput, InferRequest

_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_PLACE = "request"
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_FLOATS = ("FP16", "FP32", "FP64")


@dataclass(frozen=True, slots=True)
class Payload:
    """The rows of one request.

    :param columns: name → values, one per row; or ``None``.
    :param array: rows as nested lists or as a numpy array, where no names were sent.
    :param items: the rows as they were sent, one item each, where the form has them.
    :param is_frame: the client sent a data frame (a model without a signature gets one, too).
    :param params: MLflow's inference parameters.
    """

    columns: Mapping[str, Sequence[Any]] | None = None
    array: Any = None
    is_frame: bool = False
    items: Sequence[Any] | None = None
    params: Mapping[str, Any] | None = None


def parse_body(body: object) -> Payload:
    """Read the JSON of a v1 or an ``/invocations`` request.

    :raises InputError: it has none of the four forms.
    """
    if not isinstance(body, Mapping):
        raise InputError(
            f"{_PLACE}: expected a JSON object with one of {', '.join(_FORMATS)}, found {_type_name(body)}"
        )
    given = [name for name in _FORMATS if name in body]
    if len(given) != 1:
        found = ", ".join(map(repr, given or list(body)[:10])) or "an empty object"
        raise InputError(f"{_PLACE}: expected exactly one of {', '.join(_FORMATS)}, found {found}")
    params = body.get("params")
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"{_PLACE}: params: expected an object, found {_type_name(params)}")
    readers = {
        "dataframe_split": _read_split,
        "dataframe_records": _read_records,
        "instances": _read_instances,
        "inputs": _read_inputs,
    }
    data = body[given[0]]
    columns, array, is_frame = readers[given[0]](data)
    return Payload(columns, array, is_frame, data if isinstance(data, list) else None, params)


_Read = tuple[Mapping[str, Sequence[Any]] | None, Any, bool]


def _read_split(data: object) -> _Read:
    if not isinstance(data, Mapping) or "data" not in data:
        raise InputError(f"{_PLACE}: dataframe_split: expected an object with columns and data")
    rows, names = data["data"], data.get("columns")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{_PLACE}: dataframe_split.data: expected a list of rows, each a list of values")
    _refuse_nothing(rows)
    if names is None:
        return None, rows, True
    if not isinstance(names, list) or len(set(map(str, names))) != len(names):
        raise InputError(f"{_PLACE}: dataframe_split.columns: expected a list of different names")
    return dict(zip(map(str, names), transpose(rows, len(names)), strict=True)), None, True


def _read_records(data: object) -> _Read:
    if not isinstance(data, list) or not all(isinstance(row, Mapping) for row in data):
        raise InputError(f"{_PLACE}: dataframe_records: expected a list of objects, one per row")
    _refuse_nothing(data)
    return _gather(data), None, True


def _read_instances(data: object) -> _Read:
    if not isinstance(data, list):
        raise InputError(f"{_PLACE}: instances: expected a list of rows, found {_type_name(data)}")
    _refuse_nothing(data)
    objects = sum(isinstance(row, Mapping) for row in data)
    if objects == len(data):
        return _gather(data), None, True
    if objects:
        raise InputError(f"{_PLACE}: instances: rows are partly objects and partly values; send one kind")
    return None, data, False


def _read_inputs(data: object) -> _Read:
    if isinstance(data, Mapping):
        columns = {str(name): values if isinstance(values, list) else [values] for name, values in data.items()}
        _refuse_nothing(columns)
        return columns, None, False
    if isinstance(data, list):
        return _read_instances(data)
    raise InputError(f"{_PLACE}: inputs: expected an object of columns or a list, found {_type_name(data)}")


def _gather(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(str(name) for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _refuse_nothing(rows: Any) -> None:
    if not len(rows):
        raise InputError(f"{_PLACE}: holds no row; send at least one")


def _type_name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def transpose(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Turn rows into columns. :raises InputError: a row has another length."""
    for number, row in enumerate(rows):
        if not isinstance(row, (list, tuple)) or len(row) != width:
            found = f"{len(row)} values" if isinstance(row, (list, tuple)) else _type_name(row)
            raise InputError(f"{_PLACE}: row {number} (counted from 0): expected {width} values, found {found}")
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def parse_tensors(request: InferRequest) -> Payload:
    """Read an open inference (v2) request: a tensor per column, or one tensor of rows.

    :raises InputError: shapes, datatypes and data do not fit together.
    """
    tensors = {tensor.name: read_tensor(tensor) for tensor in request.inputs}
    if not tensors:
        raise InputError(f"{_PLACE}: inputs: expected at least one tensor")
    if len(tensors) != len(request.inputs):
        raise InputError(f"{_PLACE}: inputs: tensors must have different names")
    if len(tensors) == 1:
        (tensor,) = tensors.values()
        if tensor.ndim > 2 or (tensor.ndim == 2 and tensor.shape[1] != 1):
            return Payload(array=tensor)
    flat = {name: tensor.reshape(-1) if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor
            for name, tensor in tensors.items()}  # fmt: skip
    items = next(iter(flat.values())).tolist() if len(flat) == 1 else None
    return Payload(columns=flat, is_frame=all(tensor.ndim == 1 for tensor in flat.values()), items=items)


def read_tensor(tensor: InferInput) -> Any:
    """Return a tensor's data as a numpy array of its shape; nothing is rounded or guessed.

    :raises InputError: the data are not of the datatype, or do not fill the shape.
    """
    import numpy as np

    kinds = {"BOOL": "b", "BYTES": "OSU", **dict.fromkeys(_INTEGERS, "iu"), **dict.fromkeys(_FLOATS, "iuf")}
    if tensor.datatype not in kinds:
        raise InputError(
            f"{_PLACE}: input {tensor.name!r}: datatype {tensor.datatype!r} is unknown; use {', '.join(kinds)}"
        )
    target = {"BOOL": "bool", "BYTES": "object", "FP16": "float16", "FP32": "float32", "FP64": "float64"}.get(
        tensor.datatype, tensor.datatype.lower()
    )
    shape = tuple(tensor.shape)
    if not shape or min(shape) < 1:
        raise InputError(f"{_PLACE}: input {tensor.name!r}: shape {list(shape)} holds no row; send at least one")
    try:
        found = np.asarray(tensor.data)
        if found.dtype.kind == "O" and tensor.datatype in _FLOATS:  # null stands for a missing value
            found = np.asarray([np.nan if item is None else item for item in found.reshape(-1)])
        if found.dtype.kind not in kinds[tensor.datatype]:
            raise ValueError(f"the data hold {found.dtype} instead")
        typed = np.asarray(tensor.data, dtype=object) if target == "object" else found.astype(target)
        if tensor.datatype in _INTEGERS and not (typed == found).all():
            raise ValueError("a number does not fit")
        return typed.reshape(shape)
    except (ValueError, TypeError, OverflowError) as problem:
        raise InputError(
            f"{_PLACE}: input {tensor.name!r}: expected {tensor.datatype} of shape {list(shape)}: {problem}"
        ) from problem
