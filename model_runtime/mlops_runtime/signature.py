"""What a model wants to be fed: its signature as column specifications, and the rules that turn a file's columns into
that.

MLflow's own enforcement looks at the values of one pandas batch (an ``int64`` column passes as ``double`` while a
batch holds only 0 and 1), so the same file could pass or fail by its batch size. The rules here look at Arrow types,
plus a lossless cast, and hand MLflow exactly what it asks for. They follow its table:
https://mlflow.org/docs/latest/ml/model/signatures/ (3.17), with one addition: integers pass as ``double`` where every
value survives. Pure, apart from reading ``MLmodel``'s text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import InputError, ModelError

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW_NAME = {
    "boolean": "bool_", "integer": "int32", "long": "int64", "float": "float32", "double": "float64",
    "string": "string", "binary": "binary",
}  # fmt: skip
_OF_NUMPY = {
    "bool": "boolean", "int32": "integer", "int64": "long", "float32": "float", "float64": "double", "str": "string",
    "object": "string",
}  # fmt: skip
_INTEGERS = ("integer", "long")
_MISSING_INTEGERS = (
    "integers cannot be missing in MLflow; declare the column as double in the signature "
    "(train with it as float64), or fill it"
)


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One input. ``kind`` is an MLflow data type, or empty where MLflow has to judge (arrays, objects)."""

    name: str
    kind: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs and outputs.

    :param columns: the inputs; their names are empty where the signature has none, and order alone counts.
    :param tensor: ``(dtype, shape)`` of a single unnamed tensor, else ``None``.
    :param outputs: named or unnamed outputs as ``(name, kind)``; used only where no row tells the type.
    :param hinted: it was made of a type hint: the model takes a list with one item per row, and checks it itself.
    :param tensors: ``(name, dtype, shape)`` of the inputs where all of them are named tensors, else empty.
    """

    columns: tuple[ColumnSpec, ...] = ()
    tensor: tuple[str, tuple[int, ...]] | None = None
    outputs: tuple[tuple[str, str], ...] = ()
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    hinted: bool = False

    @property
    def named(self) -> bool:
        """Whether columns are chosen by name."""
        return bool(self.columns) and all(spec.name for spec in self.columns)


def parse_signature(mlmodel: Mapping[str, Any]) -> Signature:
    """Read the signature out of a parsed ``MLmodel`` file; a model without one gives an empty signature.

    :raises ModelError: the signature cannot be read.
    """
    raw = mlmodel.get("signature") or {}
    try:
        inputs = json.loads(raw.get("inputs") or "[]")
        outputs = json.loads(raw.get("outputs") or "[]")
        returned = tuple((str(entry.get("name") or ""), _kind(entry)) for entry in outputs)
        if len(inputs) == 1 and inputs[0].get("name") is None and inputs[0].get("type") == "tensor":
            spec = inputs[0]["tensor-spec"]
            return Signature((), (str(spec["dtype"]), tuple(int(size) for size in spec["shape"])), returned)
        columns = tuple(
            ColumnSpec(str(entry.get("name") or ""), _kind(entry), bool(entry.get("required", True)))
            for entry in inputs
        )
        hinted = bool(mlmodel.get("is_signature_from_type_hint"))
        return Signature(columns, None, returned, _named_tensors(inputs), hinted)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise ModelError(f"the signature in MLmodel cannot be read ({problem}); log the model again") from problem


def _named_tensors(inputs: list[Mapping[str, Any]]) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    if not all(entry.get("type") == "tensor" and entry.get("name") for entry in inputs):
        return ()
    specs = [(str(entry["name"]), entry["tensor-spec"]) for entry in inputs]
    return tuple((name, str(spec["dtype"]), tuple(int(size) for size in spec["shape"])) for name, spec in specs)


def _kind(entry: Mapping[str, Any]) -> str:
    kind = str(entry.get("type", ""))
    if kind == "tensor":
        spec = entry["tensor-spec"]
        return _OF_NUMPY.get(str(spec["dtype"]), "") if len(spec["shape"]) == 1 else ""
    return kind if kind in _ARROW_NAME or kind == "datetime" else ""


def arrow_type(kind: str) -> pa.DataType:
    """Return the Arrow type of an MLflow data type."""
    import pyarrow as pa

    return pa.timestamp("ns") if kind == "datetime" else getattr(pa, _ARROW_NAME[kind])()


def accepts(kind: str, found: pa.DataType) -> bool:
    """Tell whether a column of Arrow type ``found`` may become ``kind`` (the values may still not fit)."""
    from pyarrow import types

    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found):
        return True
    texts = types.is_string(found) or types.is_large_string(found) or types.is_string_view(found)
    blobs = types.is_binary(found) or types.is_large_binary(found) or types.is_fixed_size_binary(found)
    rules = {
        "string": texts,
        "binary": blobs or texts,
        "boolean": types.is_boolean(found),
        "datetime": types.is_date(found) or (types.is_timestamp(found) and found.tz is None),
        "double": types.is_floating(found) or types.is_integer(found) or types.is_decimal(found),
        "float": (types.is_floating(found) or types.is_integer(found)) and found.bit_width <= _float_width(found),
        "long": types.is_integer(found) and not types.is_uint64(found),
        "integer": types.is_integer(found) and found.bit_width <= (16 if types.is_unsigned_integer(found) else 32),
    }
    return bool(rules[kind])


def _float_width(found: pa.DataType) -> int:
    """Widest type that float32 holds without loss: its own 32 bits, or integers of 16."""
    from pyarrow import types

    return 32 if types.is_floating(found) else 16


def check_column(spec: ColumnSpec, found: pa.DataType | None, file: object) -> None:
    """Refuse a column that is missing or of a type that cannot become what the signature asks for.

    :param found: the column's type in the file, ``None`` if the file has no such column.
    """
    if found is None:
        if spec.required:
            raise InputError(
                f"{file}: column {spec.name!r} is missing; expected {spec.kind or 'an input'} (the model's "
                "signature), found no such "
                "column; add it or score with another model"
            )
    elif spec.kind and not accepts(spec.kind, found):
        raise InputError(
            f"{file}: column {spec.name!r}: expected {spec.kind} (the model's signature), found {found}; "
            "convert the column or log the model with that type"
        )


def coerce(values: pa.Array, spec: ColumnSpec, file: object) -> pa.Array:
    """Give a column the signature's type; nothing is rounded, wrapped or guessed.

    :raises InputError: a value is missing where MLflow cannot represent that, or does not survive the cast.
    """
    import pyarrow as pa

    if not spec.kind:
        return values
    target = arrow_type(spec.kind)
    if spec.kind in _INTEGERS and values.null_count:
        raise InputError(
            f"{file}: column {spec.name!r}: expected {spec.kind}, found {values.null_count} missing; "
            f"{_MISSING_INTEGERS}"
        )
    if values.type == target:
        return values
    try:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        # Decimals lose digits as doubles by nature; MLflow converts them, a safe cast would refuse.
        return values.cast(target, safe=not pa.types.is_decimal(values.type))
    except pa.ArrowInvalid as problem:
        raise InputError(
            f"{file}: column {spec.name!r}: expected {spec.kind}, found {values.type} with a value that does not "
            f"fit: {problem}"
        ) from problem
