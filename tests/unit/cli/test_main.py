from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlops_provider import __version__
from airflow_mlops_provider.cli.main import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"airflow-mlops {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["validate"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: airflow-mlops" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_traceback(tmp_path: Path) -> None:
    program = f"{sys.executable} -m airflow_mlops_provider.cli.main schema | head -c 10"
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.stdout[:1], done.stderr) == ("{", "")
