"""The last word goes where Kubernetes looks for it, if there is such a place."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlops_runtime.main import main
from mlops_runtime.termination import write_termination_message


def test_written_only_where_the_kubelet_made_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "termination-log"
    monkeypatch.setenv("MLOPS_TERMINATION_LOG", str(path))
    write_termination_message("nothing")
    assert not path.exists()
    path.touch()
    write_termination_message("ö" * 5000)
    assert path.read_bytes() == ("ö" * 2048).encode()


def test_refused_fetch_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setenv("MLOPS_TERMINATION_LOG", str(path))
    monkeypatch.setattr("mlops_runtime.main.prepare_process", lambda: None)  # signal handlers are the test runner's
    assert main(["fetch", "mlflow://churn", str(tmp_path / "model")]) == 2
    assert path.read_text() == capsys.readouterr().err.strip()
    assert "must follow mlflow://" in path.read_text()
