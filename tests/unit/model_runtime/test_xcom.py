from __future__ import annotations

import json
from pathlib import Path

from mlops_runtime.xcom import write_xcom


def test_new_file_appears_whole_and_alone(tmp_path: Path) -> None:
    write_xcom({"rows": 3}, str(tmp_path / "return.json"))
    assert json.loads((tmp_path / "return.json").read_text()) == {"rows": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["return.json"]


def test_termination_message_file_is_filled_in_place(tmp_path: Path) -> None:
    """The kubelet mounts this very file: a new one in its place would not be seen."""
    file = tmp_path / "return.json"
    file.write_text("x" * 1000)
    before = file.stat().st_ino
    write_xcom({"rows": 3}, str(file))
    assert file.stat().st_ino == before
    assert json.loads(file.read_text()) == {"rows": 3}
