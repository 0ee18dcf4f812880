"""From what a model returned to JSON: ``predictions`` for v1 and MLflow, tensors for open inference (v2). Pure.

JSON has no NaN and no infinity: they become ``null``. A data frame gives one object per row in v1 and MLflow, and one
tensor per column in v2; an array gives nested lists, and one tensor ``output-0`` (KServe's servers name it so), unless
the signature names its only output.
"""

from __future__ import annotations

import base64
import datetime
import decimal
from collections.abc import Mapping
from typing import Any

from mlops_runtime.errors import ModelError
from mlops_runtime.signature import Signature

_OUTPUT = "output-0"
_DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float32": "FP32", "float64": "FP64",
}  # fmt: skip


def to_predictions(result: Any) -> Any:
    """Return plain lists, objects and scalars that JSON can hold.

    :raises ModelError: the model returned something else.
    """
    import numpy as np
    import pandas as pd

    result = _dense(result)
    if isinstance(result, pd.DataFrame):
        columns = {str(name): _plain_list(result.iloc[:, index]) for index, name in enumerate(result.columns)}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if isinstance(result, (pd.Series, np.ndarray)):
        return _plain_list(result)
    return _plain(result)


def to_tensors(result: Any, signature: Signature) -> list[dict[str, Any]]:
    """Return ``name``, ``datatype``, ``shape`` and flat ``data`` of each output.

    :raises ModelError: the model returned something that is no tensor.
    """
    import numpy as np
    import pandas as pd

    result = _dense(result)
    if isinstance(result, pd.DataFrame):
        return [_tensor(str(name), result.iloc[:, index]) for index, name in enumerate(result.columns)]
    if isinstance(result, Mapping):
        return [_tensor(str(name), values) for name, values in result.items()]
    named = signature.outputs[0][0] if len(signature.outputs) == 1 else ""
    if not isinstance(result, (np.ndarray, pd.Series, list, tuple)):
        raise ModelError(f"the model returned a {type(result).__name__}; open inference needs an array or a data frame")
    return [_tensor(named or _OUTPUT, result)]


def _tensor(name: str, values: Any) -> dict[str, Any]:
    import numpy as np

    try:
        array = np.asarray(_without_extension(values))
    except ValueError:  # rows of different lengths: text is the only datatype that can hold them
        array = np.empty(len(values), dtype=object)
        array[:] = list(values)
    if array.dtype.name == "float16":
        array = array.astype("float32")
    datatype = _DATATYPES.get(array.dtype.name, "BYTES")
    flat = _plain_list(array.reshape(-1))
    if datatype == "BYTES":
        flat = [_text(item) for item in flat]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": flat}


def _without_extension(values: Any) -> Any:
    """Return a series' values as numpy has them; pandas' missing integers become NaN."""
    import numpy as np
    import pandas as pd

    if not isinstance(values, pd.Series):
        return values
    if isinstance(values.dtype, np.dtype) or not values.hasnans or not pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy()
    return values.to_numpy("float64", na_value=np.nan)


def _text(item: Any) -> str | None:
    is_missing = item is None or (isinstance(item, float) and item != item)
    return None if is_missing else item if isinstance(item, str) else str(item)


def _dense(result: Any) -> Any:
    return result.toarray() if hasattr(result, "toarray") else result  # scipy's sparse matrices


def _plain_list(values: Any) -> list[Any]:
    import numpy as np

    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "M":
        values = np.asarray(values).astype("datetime64[us]")  # of nanoseconds, numpy would list integers
    listed: list[Any] = values.tolist()
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biuf":
        return listed  # nothing that JSON lacks; pandas' own integers may be missing
    return [_plain(item) for item in listed] if isinstance(listed, list) else [_plain(listed)]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    import numpy as np
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise ModelError(f"the model returned a {type(value).__name__}; return numbers, text, lists, arrays or data frames")
