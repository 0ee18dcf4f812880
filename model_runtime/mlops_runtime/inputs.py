"""From files and a signature to what a model is given: which columns are features, which are kept, which rows are ours.

Does I/O through ``readers``; hands out Arrow data only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import InputError
from mlops_runtime.locations import InputFile
from mlops_runtime.partitions import FileShare, share_files, share_rows, share_stripes
from mlops_runtime.readers import count_rows, read_batches, read_schema
from mlops_runtime.settings import ScoreSettings
from mlops_runtime.signature import ColumnSpec, Signature, arrow_type, check_column, coerce

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES = 2 << 20  # a prediction holds about eight copies of its batch; four times as much is no faster
_MOST_ROWS, _FEWEST_ROWS = 65_536, 256
_BYTES_OF_TEXT = 32  # guess for types without a fixed width


@dataclass(frozen=True, slots=True)
class InputPlan:
    """What is read.

    :param features: what the model gets; :param keys: ``(name, type)`` of what is kept beside the predictions.
    :param numbered: no column is left to keep, so ``row`` (and ``file``, if there are several) tells where a
        prediction belongs.

    """

    files: tuple[InputFile, ...]
    shares: tuple[FileShare, ...]
    features: tuple[ColumnSpec, ...]
    keys: tuple[tuple[str, pa.DataType], ...]
    numbered: bool
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of one file."""

    file: InputFile
    row: int
    features: pa.RecordBatch
    keys: pa.RecordBatch


def plan_input(settings: ScoreSettings, signature: Signature, files: tuple[InputFile, ...]) -> InputPlan:
    """Choose columns by the first file that has any, and our share of the rows.

    :raises InputError: a column is missing, doubled or of the wrong type.
    """
    import pyarrow as pa

    head, file = pa.schema([]), files[0]
    for file in files:
        head = read_schema(file)
        if head.names:
            break
    features = _choose_features(settings, signature, head, file)
    keys = _choose_keys(settings, signature, features, head, file)
    for name in {*(spec.name for spec in features), *(key for key, _ in keys)}:
        if head.names.count(name) > 1:
            raise InputError(f"{file}: column {name!r} occurs {head.names.count(name)} times; rename all but one")
    if head.names:
        _check(features, head, file)
    types = [head.field(spec.name).type for spec in features if spec.name in head.names] + [kind for _, kind in keys]
    return InputPlan(
        files, _choose_shares(settings, files), features, keys, not keys, settings.batch_rows or _fit_rows(types)
    )


def _choose_features(
    settings: ScoreSettings, signature: Signature, head: pa.Schema, file: InputFile
) -> tuple[ColumnSpec, ...]:
    if signature.named:
        return signature.columns
    names = [name for name in head.names if name not in settings.keep]
    expected = len(signature.columns)
    if signature.tensor and all(size > 0 for size in signature.tensor[1][1:]):
        expected = prod(signature.tensor[1][1:])
    if expected and head.names and len(names) != expected:
        raise InputError(
            f"{file}: {len(names)} columns are left for the model ({', '.join(names[:10])}…), but its signature has "
            f"{expected} without "
            "names; name the other columns in MLOPS_KEY_COLUMNS"
        )
    if signature.columns:
        return tuple(replace(spec, name=name) for spec, name in zip(signature.columns, names, strict=False))
    return tuple(ColumnSpec(name, "") for name in names)


def _choose_keys(
    settings: ScoreSettings, signature: Signature, features: Sequence[ColumnSpec], head: pa.Schema, file: InputFile
) -> tuple[tuple[str, pa.DataType], ...]:
    import pyarrow as pa

    inputs = {spec.name: spec.kind for spec in features}
    chosen = settings.keep or tuple(name for name in head.names if signature.named and name not in inputs)
    keys = []
    for name in chosen:
        if name not in head.names:
            if not head.names:
                continue
            raise InputError(
                f"{file}: key column {name!r} is missing; found {', '.join(head.names[:20])}; correct MLOPS_KEY_COLUMNS"
            )
        kind = arrow_type(inputs[name]) if inputs.get(name) else head.field(name).type
        if file.format == "csv" and (pa.types.is_null(kind) or (settings.keys_as_text and name not in inputs)):
            kind = pa.string()
        keys.append((name, kind))
    return tuple(keys)


def _choose_shares(settings: ScoreSettings, files: tuple[InputFile, ...]) -> tuple[FileShare, ...]:
    if len(files) >= settings.partitions:
        return share_files(len(files), settings.partition, settings.partitions)
    if files[0].format == "parquet":
        return share_rows([count_rows(file) for file in files], settings.partition, settings.partitions)
    return share_stripes(len(files), settings.partition, settings.partitions)


def _fit_rows(types: Sequence[pa.DataType]) -> int:
    import pyarrow as pa

    width = sum(kind.bit_width // 8 or 1 if pa.types.is_primitive(kind) else _BYTES_OF_TEXT for kind in types)
    return max(_FEWEST_ROWS, min(_MOST_ROWS, _BATCH_BYTES // max(width, 1)))


def _check(features: Sequence[ColumnSpec], head: pa.Schema, file: InputFile) -> None:
    import pyarrow as pa

    for spec in features:
        found = head.field(spec.name).type if spec.name in head.names else None
        if found is not None and (file.format == "csv" or (file.format == "jsonl" and pa.types.is_timestamp(found))):
            continue  # text has no types of its own; what does not parse is named when it is met
        check_column(spec, found, file)


def read_chunks(plan: InputPlan, shares: Sequence[FileShare]) -> Iterator[Chunk]:
    """Yield the rows of ``shares`` in order, typed as the signature says.

    :raises InputError: a file, column or value is not what the model asks for.
    """
    for share in shares:
        file = plan.files[share.file]
        head = read_schema(file)
        if not head.names:
            continue
        _check(plan.features, head, file)
        wanted = _wanted(plan, head, file)
        for row, batch in read_batches(file, head.names, wanted, plan.batch_rows, share.start, share.stop):
            pieces = share.stripes.select(row, batch.num_rows) if share.stripes else ((0, batch.num_rows),)
            for offset, length in pieces:
                yield _split(plan, file, row + offset, batch.slice(offset, length))


def _wanted(plan: InputPlan, head: pa.Schema, file: InputFile) -> dict[str, pa.DataType]:
    wanted = dict(plan.keys)
    for name in wanted:
        if name not in head.names and file.format != "jsonl":
            raise InputError(
                f"{file}: key column {name!r} is missing, but {plan.files[0]} has it; add it or name other "
                "MLOPS_KEY_COLUMNS"
            )
    for spec in plan.features:
        if spec.name in head.names:
            wanted[spec.name] = arrow_type(spec.kind) if spec.kind else head.field(spec.name).type
    return wanted


def _split(plan: InputPlan, file: InputFile, row: int, batch: pa.RecordBatch) -> Chunk:
    import pyarrow as pa

    specs = [spec for spec in plan.features if spec.name in batch.schema.names]
    features = [coerce(batch.column(spec.name), spec, file) for spec in specs]
    keys, names = [], [name for name, _ in plan.keys]
    for name, kind in plan.keys:
        try:
            keys.append(batch.column(name).cast(kind))
        except pa.ArrowException as problem:
            raise InputError(
                f"{file}: key column {name!r}: expected {kind} as in the first file, found "
                f"{batch.schema.field(name).type}"
            ) from problem
    if plan.numbered:
        names, keys = number_rows(len(plan.files) > 1, file, row, batch.num_rows)
    return Chunk(
        file,
        row,
        pa.RecordBatch.from_arrays(features, [spec.name for spec in specs]),
        pa.RecordBatch.from_arrays(keys, names),
    )


def number_rows(several: bool, file: InputFile, row: int, rows: int) -> tuple[list[str], list[pa.Array]]:
    """Return the columns that stand in for missing keys: ``row`` counts from 0 in its file."""
    import pyarrow as pa

    numbers = pa.array(range(row, row + rows), pa.int64())
    return (["file", "row"], [pa.repeat(str(file), rows), numbers]) if several else (["row"], [numbers])


def empty_keys(plan: InputPlan) -> pa.RecordBatch:
    """Return the kept columns without a row."""
    import pyarrow as pa

    if plan.numbered:
        names, keys = number_rows(len(plan.files) > 1, plan.files[0], 0, 0)
        return pa.RecordBatch.from_arrays(keys, names)
    return pa.RecordBatch.from_pylist([], schema=pa.schema(list(plan.keys)))


def to_model_input(features: pa.RecordBatch, signature: Signature) -> Any:
    """Return a data frame, or the array of the signature's shape where that is one tensor."""
    import numpy as np

    if signature.tensor:
        dtype, shape = signature.tensor
        columns = [column.to_numpy(zero_copy_only=False) for column in features.columns]
        return np.stack(columns, axis=1).astype(dtype, copy=False).reshape(-1, *shape[1:])
    # With named columns MLflow copies into a frame of its own, so views of Arrow's memory are enough here.
    return features.to_pandas(split_blocks=signature.named)
