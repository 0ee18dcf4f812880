"""Stream one input file as record batches in bounded memory: Parquet, CSV and JSON Lines. Does I/O, decides nothing
about models.

CSV has no types: a column is read as ``wanted`` says; other columns get the type that the head of the first file
suggests, fixed for all files. Empty unquoted fields (and ``NA``, ``null``, …, as pandas has them) are missing, quoted
ones are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import InputError, UnreachableError, is_unreachable, one_line
from mlops_runtime.locations import InputFile, open_filesystem

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES = 1 << 20  # text parsed at a time; more is no faster
_PAGE_BUFFER_BYTES = 256 << 10  # per Parquet column; without it whole column chunks are held
_CSV_VALUE = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to ([^:]+): (.*)", re.DOTALL)
_LEADING_ZERO = re.compile(r"[+-]?0\d+")


def read_schema(file: InputFile) -> pa.Schema:
    """Return names and types of a file's columns; of text files, what its head suggests."""
    import pyarrow as pa

    with translated(file):
        if file.format == "parquet":
            return open_parquet(file).schema_arrow
        if not file.size_bytes:
            return pa.schema([])
        if file.format == "csv":
            return _guess_csv(file)
        with _open_text(file) as stream:
            return _open_json(stream, None).schema


def count_rows(file: InputFile) -> int:
    """Return a Parquet file's row count from its footer."""
    with translated(file):
        return int(open_parquet(file).metadata.num_rows)


def open_parquet(file: InputFile) -> Any:
    """Open a Parquet file for streaming."""
    import pyarrow.parquet as pq

    source = open_filesystem(file.location.scheme).open_input_file(file.location.path)
    return pq.ParquetFile(source, buffer_size=_PAGE_BUFFER_BYTES, pre_buffer=False)


def read_batches(
    file: InputFile,
    header: Sequence[str],
    wanted: Mapping[str, pa.DataType],
    batch_rows: int,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield ``(row number in the file, batch)``.

    :param header: the file's column names, as :func:`read_schema` gave them.
    :param wanted: the columns to read; their types matter for text only.
    :param start: first row; Parquet only, as is ``stop`` (exclusive).
    """
    columns = list(wanted)
    with translated(file, header):
        if file.format == "parquet":
            yield from _read_parquet(file, columns, batch_rows, start, stop)
        elif file.size_bytes:
            with _open_text(file) as stream:
                reader = _open_csv(stream, columns, wanted) if file.format == "csv" else _open_json(stream, wanted)
                yield from rechunk(reader, batch_rows)


def _read_parquet(
    file: InputFile, columns: Sequence[str], batch_rows: int, start: int, stop: int | None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    with open_parquet(file) as source:
        first, groups, offset = 0, list[int](), 0
        last = source.metadata.num_rows if stop is None else stop
        for index in range(source.metadata.num_row_groups):
            rows = source.metadata.row_group(index).num_rows
            if offset + rows > start and offset < last:
                first = first if groups else offset
                groups.append(index)
            offset += rows
        row = first
        for batch in (
            source.iter_batches(batch_rows, row_groups=groups, columns=columns, use_threads=False) if groups else ()
        ):
            low, high = max(start - row, 0), min(last - row, batch.num_rows)
            if low < high:
                yield row + low, batch.slice(low, high - low)
            row += batch.num_rows


def rechunk(batches: Iterator[pa.RecordBatch], batch_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield ``(row, batch)`` with exactly ``batch_rows`` rows each, the last one with what is left."""
    import pyarrow as pa

    row, held, rows = 0, [], 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        while rows >= batch_rows:
            whole = held[0] if len(held) == 1 else pa.concat_batches(held)
            yield row, whole.slice(0, batch_rows)
            row, rows = row + batch_rows, rows - batch_rows
            held = [whole.slice(batch_rows)] if rows else []
    if rows:
        yield row, pa.concat_batches(held)


def _open_text(file: InputFile) -> Any:
    return open_filesystem(file.location.scheme).open_input_stream(file.location.path, compression="detect")


def _open_csv(stream: Any, columns: Sequence[str], wanted: Mapping[str, pa.DataType]) -> Any:
    from pyarrow import csv

    return csv.open_csv(
        stream,
        read_options=csv.ReadOptions(
            block_size=_BLOCK_BYTES, use_threads=False
        ),  # one thread names the row of a bad value
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict(wanted),
            include_columns=list(columns),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _guess_csv(file: InputFile) -> pa.Schema:
    """Take Arrow's guess from the first block, but keep numbers with leading zeros as text: they are codes."""
    import pyarrow as pa

    with _open_text(file) as stream:
        schema = _open_csv(stream, (), {}).schema
    integers = [
        field.name for field in schema if pa.types.is_integer(field.type) and schema.names.count(field.name) == 1
    ]
    if not integers:
        return schema
    with _open_text(file) as stream:
        text = next(iter(_open_csv(stream, integers, dict.fromkeys(integers, pa.string()))), None)
    for name in integers:
        if text is not None and any(_LEADING_ZERO.fullmatch(value or "") for value in text.column(name).to_pylist()):
            schema = schema.set(schema.get_field_index(name), pa.field(name, pa.string()))
    return schema


def _open_json(stream: Any, wanted: Mapping[str, pa.DataType] | None) -> Any:
    import pyarrow as pa
    from pyarrow import json

    options = json.ParseOptions()
    if wanted is not None:
        options = json.ParseOptions(explicit_schema=pa.schema(list(wanted.items())), unexpected_field_behavior="ignore")
    return json.open_json(
        stream, read_options=json.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False), parse_options=options
    )


@contextmanager
def translated(file: InputFile, header: Sequence[str] = ()) -> Iterator[None]:
    """Turn Arrow's and the stores' errors about one file into ours.

    :param header: the file's column names, to say which column a number in Arrow's message means.
    """
    import pyarrow as pa

    try:
        yield
    except pa.ArrowInvalid as problem:
        raise InputError(f"{file}: {_explain(str(problem), header)}") from problem
    except (OSError, pa.ArrowException) as problem:
        if is_unreachable(problem):
            raise UnreachableError(f"{file}: {one_line(problem)}; check the address and the network") from problem
        raise InputError(
            f"{file}: cannot be read: {one_line(problem)}; check the file and its permissions"
        ) from problem


def _explain(message: str, header: Sequence[str]) -> str:
    found = _CSV_VALUE.match(message)
    if not found:
        return f"{' '.join(message.split())}; repair the file, or score without it"
    column, row, expected, value = found.groups()
    name = header[int(column)] if int(column) < len(header) else f"#{column}"
    place = f" in row {row} (the header is row 1)" if row else ""
    return (
        f"column {name!r}: expected {expected}, found {value.removeprefix('invalid value ')}{place}; repair the value"
    )
