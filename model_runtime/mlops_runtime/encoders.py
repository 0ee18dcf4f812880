"""Turn record batches into the bytes of a Parquet, CSV or JSON Lines file, written into the file object it is given."""

from __future__ import annotations

import datetime
import json
import math
from typing import TYPE_CHECKING, Any

from mlops_runtime.errors import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 32 << 20  # wide key columns: keep what waits for its row group small


class Encoder:
    """Writes batches of one schema; ``close`` ends the file."""

    def __init__(self, file: Any, schema: pa.Schema, output_format: str) -> None:
        self.schema = schema
        self._file = file
        self._held: list[pa.RecordBatch] = []
        self._writer = _WRITERS[output_format](file, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch; several become one row group."""
        self._held.append(batch)
        if (
            sum(part.num_rows for part in self._held) >= ROW_GROUP_ROWS
            or sum(part.nbytes for part in self._held) >= _ROW_GROUP_BYTES
        ):
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held, self.schema))
            self._held = []


def _parquet(file: Any, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(file, schema, compression="zstd")


def _csv(file: Any, schema: pa.Schema) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    try:
        return csv.CSVWriter(file, schema)
    except pa.ArrowInvalid as problem:
        raise OutputError(f"CSV cannot hold these columns ({problem}); use --format parquet or jsonl") from problem


class _JsonLinesWriter:
    """Python's own encoder: pandas' rounds floats to 15 digits. NaN and infinity are no JSON and become null."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        self._file = file

    def write_table(self, table: pa.Table) -> None:
        lines = (json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) for row in table.to_pylist())
        self._file.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """Nothing is held."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


_WRITERS = {"parquet": _parquet, "csv": _csv, "jsonl": _JsonLinesWriter}
