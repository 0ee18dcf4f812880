"""Files become typed batches: text is read as wanted, a bad value is named, ranges and batch sizes lose no row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlops_runtime.errors import InputError
from mlops_runtime.locations import InputFile, list_input_files
from mlops_runtime.readers import count_rows, read_batches, read_schema, rechunk


def _file(path: Path) -> InputFile:
    return list_input_files(str(path))[0]


def _rows(file: InputFile, wanted: dict[str, pa.DataType], batch_rows: int = 3) -> list[dict[str, object]]:
    return [
        row for _, batch in read_batches(file, read_schema(file).names, wanted, batch_rows) for row in batch.to_pylist()
    ]


def test_csv_is_read_as_wanted(tmp_path: Path) -> None:
    (path := tmp_path / "a.csv").write_text('code,x,note\n007,1,"two\nlines"\n8,,""\n9,2.5,\n', encoding="utf-8-sig")
    assert read_schema(_file(path)).field("code").type == pa.string()
    assert _rows(_file(path), {"x": pa.float64(), "code": pa.string(), "note": pa.string()}) == [
        {"x": 1.0, "code": "007", "note": "two\nlines"},
        {"x": None, "code": "8", "note": ""},
        {"x": 2.5, "code": "9", "note": None},
    ]


def test_bad_csv_value_names_column_row_and_value(tmp_path: Path) -> None:
    (path := tmp_path / "a.csv").write_text("id,x\n1,2\n2,two\n")
    with pytest.raises(InputError, match=r"a\.csv: column 'x': expected double, found 'two' in row 3"):
        _rows(_file(path), {"x": pa.float64()})


def test_compressed_json_lines(tmp_path: Path) -> None:
    (path := tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"x": index, "y": "z"}) + "\n" for index in range(7)).encode())
    )
    assert _rows(_file(path), {"x": pa.float64()}) == [{"x": float(index)} for index in range(7)]


@pytest.mark.parametrize("content", [b"", b"id,x\n"])
def test_csv_without_rows(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "a.csv").write_bytes(content)
    assert _rows(_file(path), {"x": pa.float64()}) == []


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 10), (4, 5), (3, 9), (9, 10), (5, 5)])
def test_parquet_ranges(tmp_path: Path, start: int, stop: int | None) -> None:
    pq.write_table(pa.table({"petal.length": range(10)}), path := tmp_path / "a.parquet", row_group_size=4)
    file = _file(path)
    assert count_rows(file) == 10
    found = [
        (row + index, value)
        for row, batch in read_batches(file, ["petal.length"], {"petal.length": pa.int64()}, 3, start, stop)
        for index, value in enumerate(batch.column("petal.length").to_pylist())
    ]
    assert found == [(row, row) for row in range(10)[start:stop]]


@pytest.mark.parametrize("sizes", [[5, 5, 1], [1] * 11, [11], [0, 11, 0], []])
def test_rechunk(sizes: list[int]) -> None:
    numbers = iter(range(100))
    batches = iter(
        [pa.record_batch({"x": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    )
    chunks = [(row, batch.column(0).to_pylist()) for row, batch in rechunk(batches, 4)]
    assert chunks == [(row, list(range(row, min(row + 4, sum(sizes))))) for row in range(0, sum(sizes), 4)]


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(InputError, match=r"a\.parquet"):
        read_schema(_file(path))
