"""A part has its name, appears whole or not at all, and never stands beside a stranger."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mlops_runtime import output
from mlops_runtime.errors import OutputError, UsageError
from mlops_runtime.locations import Location
from mlops_runtime.output import DigestingFile, choose_target, open_part, refuse_strangers


@pytest.mark.parametrize(
    ("uri", "chosen", "expected"),
    [
        ("/o/", "", ("/o/part-00001-of-00004.parquet", "parquet")),
        ("/o", "csv", ("/o/part-00001-of-00004.csv", "csv")),
        ("/o/ds=2026-01-01", "jsonl", ("/o/ds=2026-01-01/part-00001-of-00004.jsonl", "jsonl")),
    ],
)
def test_directory_of_parts(uri: str, chosen: str, expected: tuple[str, str]) -> None:
    target, output_format = choose_target(uri, chosen, 1, 4)
    assert (target.path, output_format) == expected


def test_single_file() -> None:
    assert choose_target("s3://b/o.csv", "", 0, 1) == (Location("s3", "b/o.csv"), "csv")
    with pytest.raises(UsageError, match="end it in /"):
        choose_target("/o.csv", "", 0, 2)
    with pytest.raises(UsageError, match="make them agree"):
        choose_target("/o.csv", "parquet", 0, 1)


@pytest.mark.parametrize("unnamed", [True, False])
def test_part_is_invisible_until_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool) -> None:
    if not unnamed:
        real = output.os.open

        def without_unnamed_files(path: str, flags: int, *rest: int) -> int:
            if flags & output.os.O_TMPFILE == output.os.O_TMPFILE:
                raise OSError(95, "Operation not supported")
            return real(path, flags, *rest)

        monkeypatch.setattr(output.os, "open", without_unnamed_files)
    target = tmp_path / "o" / "part.csv"
    part = open_part(Location("file", str(target)))
    file = DigestingFile(part)
    file.write(b"abc")
    assert not target.exists()
    if unnamed:
        assert list(target.parent.iterdir()) == []
    part.commit()
    part.discard()
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"abc"]
    assert file.digest == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    again = open_part(Location("file", str(target)))
    again.write(b"half")
    again.discard()
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"abc"]


@pytest.mark.parametrize("stranger", ["part-00003-of-00004.parquet", "part-00000-of-00002.csv"])
def test_parts_of_another_run_are_refused(tmp_path: Path, stranger: str) -> None:
    (tmp_path / stranger).touch()
    with pytest.raises(OutputError, match=stranger):
        refuse_strangers(Location("file", str(tmp_path / "part-00000-of-00002.parquet")), 2)


def test_own_parts_are_welcome(tmp_path: Path) -> None:
    (tmp_path / "part-00001-of-00002.parquet").touch()
    refuse_strangers(Location("file", str(tmp_path / "part-00000-of-00002.parquet")), 2)


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        open_part(Location("file", str(tmp_path / "file" / "part.csv")))
