"""The command line: exit codes, one line per error, and no heavy import before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    names = ("MODEL_URI", "INPUT_URI", "OUTPUT_URI", "MLFLOW_TRACKING_URI")
    environment = {**{name: value for name, value in os.environ.items() if name not in names}, **variables}
    command = [sys.executable, "-c", "import sys; from mlops_runtime.main import main; sys.exit(main())", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_missing_variable_is_usage() -> None:
    result = _run("score")
    assert result.returncode == 2
    assert result.stderr == "mlops-runtime: error: usage: MODEL_URI is not set; set it or pass --model-uri\n"


def test_missing_input_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    result = _run("score", MODEL_URI="models:/m-1", INPUT_URI=str(tmp_path), OUTPUT_URI=str(tmp_path / "out"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"mlops-runtime: error: no input file at {tmp_path}")
    assert result.stderr.count("\n") == 1


def test_tracking_server_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    result = _run("score", MODEL_URI="models:/m-1", INPUT_URI=str(tmp_path), OUTPUT_URI=str(tmp_path / "out"))
    assert result.returncode == 2
    assert "MLFLOW_TRACKING_URI is not set" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["surf"], ["score", "--nonsense"]])
def test_unknown_arguments_are_usage(arguments: list[str]) -> None:
    assert _run(*arguments).returncode == 2


def test_scoring_does_not_import_the_model_server() -> None:
    code = (
        "import sys, mlops_runtime.score, mlops_runtime.fetch, mlops_runtime.model, mlops_runtime.signature; "
        "print({'kserve', 'uvicorn', 'prometheus_client', 'mlops_runtime.serving'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, mlops_runtime.main as m; m.build_parser(); "
        "print({'pyarrow', 'pandas', 'mlflow', 'kserve'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
