"""Whatever bytes a file holds, it is accepted or refused with its place; nothing else may happen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "hostile.py"
CASES = int(os.environ.get("MLOPS_HOSTILE_CASES", "600"))


@pytest.mark.timeout(3600)
def test_hostile_input_never_surprises(tmp_path: Path) -> None:
    """In a process of its own: memory is measured there. The program ends where an input breaks a bar."""
    report = tmp_path / "report.json"
    command = [sys.executable, str(PROGRAM), "--cases", str(CASES), "--json", str(report)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    figures = json.loads(report.read_text())
    assert figures["cases"] >= CASES
    assert figures["accepted"] + figures["refused"] == figures["cases"]
    assert figures["accepted"] > 0
    assert 0.3 * figures["refused"] < figures["refused_with_field"] <= figures["refused"]
    assert figures["worst_cpu_ms"] < 100
    assert figures["worst_memory_mb"] < 200


def test_the_program_notices_a_surprise(tmp_path: Path) -> None:
    """The control: a loader that lets a traceback through ends it."""
    source = f"""
import runpy, sys, airflow_mlops_provider.declaration as declaration
def load_declaration(*_): raise RecursionError("surprise")
declaration.load_declaration = load_declaration
sys.argv = ["hostile.py", "--cases", "50"]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "RecursionError: surprise" in done.stderr
