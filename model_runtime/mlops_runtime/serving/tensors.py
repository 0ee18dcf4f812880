"""A signature in open inference's words, for the model's metadata. Pure."""

from __future__ import annotations

from typing import Any

from mlops_runtime.signature import Signature

_OF_KIND = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64", "string": "BYTES",
    "binary": "BYTES", "datetime": "BYTES", "": "BYTES",
}  # fmt: skip
_OF_NUMPY = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32",
    "float64": "FP64",
}  # fmt: skip


def describe_inputs(signature: Signature) -> list[dict[str, Any]]:
    """Return the metadata of the inputs, empty for a model without a signature."""
    if signature.tensor:
        return [_tensor("input-0", *signature.tensor)]
    if signature.tensors:
        return [_tensor(*tensor) for tensor in signature.tensors]
    return [
        {"name": spec.name or f"input-{index}", "datatype": _OF_KIND[spec.kind], "shape": [-1]}
        for index, spec in enumerate(signature.columns)
    ]


def describe_outputs(signature: Signature) -> list[dict[str, Any]]:
    """Return the metadata of the outputs."""
    return [
        {"name": name or f"output-{index}", "datatype": _OF_KIND[kind], "shape": [-1]}
        for index, (name, kind) in enumerate(signature.outputs)
    ]


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": _OF_NUMPY.get(dtype, "BYTES"), "shape": list(shape)}
