"""``airflow-mlops demo`` as a newcomer runs it: the result, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "airflow_mlops_provider.cli.main", "demo"]


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(directory)},
    )


def processes_in(directory: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if target.startswith(str(directory)):
            found.append(path.parent.name)
    return found


def test_once_is_right_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "--once")
    out, err = process.communicate(timeout=560)
    assert process.returncode == 0, err
    assert "143 held-back tumours were scored" in out
    assert "the same as the model in process" in out
    assert "still waiting" in err or "✓ Airflow answers" in err
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_starting_it_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = start(tmp_path)
    assert process.stderr is not None
    for line in iter(process.stderr.readline, ""):
        if "MLflow starts" in line:
            break
    time.sleep(3)
    assert processes_in(tmp_path)
    process.send_signal(number)
    time.sleep(0.5)
    process.send_signal(number)  # an impatient second one does not cut the cleaning short
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


def test_a_used_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        process = start(tmp_path, "--once", "--port", str(port))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert f"port {port} on 127.0.0.1 cannot be used" in err
    assert list(tmp_path.iterdir()) == []


def test_a_failure_says_why_where_and_what_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``git`` on the path nothing can be declared."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    process = start(tmp_path, "--once")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "git is not installed; install it with the system's package manager" in err
    assert list(tmp_path.iterdir()) == []
