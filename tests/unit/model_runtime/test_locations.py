"""URIs, globs and endings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlops_runtime.errors import InputError
from mlops_runtime.locations import Location, format_of, list_input_files, parse_location, translate_glob


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/x.csv", Location("file", "/data/x.csv")),
        ("file:///data/a%20b.csv", Location("file", "/data/a b.csv")),
        ("s3a://bucket/ds=2026-01-01/", Location("s3", "bucket/ds=2026-01-01/")),
        ("gcs://bucket/x", Location("gs", "bucket/x")),
    ],
)
def test_location(uri: str, expected: Location) -> None:
    assert parse_location(uri) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.parquet", "parquet"),
        ("a.PQ", "parquet"),
        ("a.csv.gz", "csv"),
        ("a.ndjson", "jsonl"),
        ("a.txt", ""),
        ("a", ""),
    ],
)
def test_format_by_ending(name: str, expected: str) -> None:
    assert format_of(name) == expected


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/d/*.csv", "/d/a.csv", True),
        ("/d/*.csv", "/d/e/a.csv", False),
        ("/d/**/*.csv", "/d/e/f/a.csv", True),
        ("/d/**/*.csv", "/d/a.csv", True),
        ("/d/a[!0-9].csv", "/d/a5.csv", False),
        ("/d/a?.csv", "/d/ab.csv", True),
        ("/d+/a.*", "/d+/a.csv", True),
    ],
)
def test_glob(pattern: str, path: str, matches: bool) -> None:
    assert bool(re.fullmatch(translate_glob(pattern), path)) is matches


def test_directory_is_sorted_and_leaves_out_markers(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_SUCCESS", ".c.csv", "ds=1/c.csv", "_temporary/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n1\n")
    names = [file.location.path.removeprefix(f"{tmp_path}/") for file in list_input_files(str(tmp_path))]
    assert names == ["a.csv", "b.csv", "ds=1/c.csv"]


@pytest.mark.parametrize(
    ("names", "words"),
    [([], "no input file"), (["a.txt"], "a.txt: the format"), (["a.csv", "b.parquet"], "narrow INPUT_URI")],
)
def test_unusable_directory_says_why(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=words):
        list_input_files(f"{tmp_path}/")
