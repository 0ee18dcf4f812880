from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_mlops_provider.cli.main import main


def test_printed_schemas_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"model.v1.json", "environments.v1.json"}


def test_written_schemas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--output-dir", str(tmp_path / "new"), "--output", "json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert [Path(name).name for name in written] == ["model.v1.json", "environments.v1.json"]
    assert all(json.loads(Path(name).read_text(encoding="utf-8"))["$schema"] for name in written)


def test_a_directory_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["schema", "--output-dir", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_shipped_schemas_and_the_reference_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--path"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "model.v1.json").is_file()
    assert main(["schema", "--path", "--output", "json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).is_dir()
    assert main(["schema", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Reference of declarations\n")
