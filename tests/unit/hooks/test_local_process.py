"""Real processes, no stand-ins."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_mlops_provider.exceptions import RunnerError
from airflow_mlops_provider.hooks.local_process import LocalProcess


def run_python(
    source: str, lines: list[str] | None = None, *, timeout_seconds: float | None = None, **variables: str
) -> object:
    process = LocalProcess([sys.executable, "-u", "-c", source], variables, (lines if lines is not None else []).append)
    return process.run(timeout_seconds=timeout_seconds)


def alive(pid: int) -> bool:
    """Whether *pid* still runs; a zombie that its new parent has not collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_result_file_becomes_the_result() -> None:
    source = "import os, json; json.dump({'rows': 3}, open(os.environ['MLOPS_XCOM_PATH'], 'w'))"
    assert run_python(source) == {"rows": 3}


def test_no_result_file_is_none() -> None:
    assert run_python("pass") is None


def test_output_is_streamed_line_by_line_in_order() -> None:
    lines: list[str] = []
    run_python("import sys\nfor i in range(3): print('line', i); print('err', i, file=sys.stderr)", lines)
    assert lines == ["line 0", "err 0", "line 1", "err 1", "line 2", "err 2"]


def test_workers_own_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "hunter2")
    lines: list[str] = []
    run_python("import os; print(sorted(os.environ))", lines, MODEL_URI="models:/m-1")
    assert "AIRFLOW_CONN_SECRET" not in lines[0]
    assert "MODEL_URI" in lines[0]


def test_program_beside_this_python_is_found_without_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    lines: list[str] = []
    LocalProcess(["mlops-runtime", "--help"], {}, lines.append).run()
    assert any("score" in line for line in lines)


def test_failure_carries_exit_code_and_last_lines() -> None:
    with pytest.raises(RunnerError, match=r"exit code 3.*\n.*column 'age' is missing"):
        run_python("import sys; print(\"column 'age' is missing\"); sys.exit(3)")


def test_missing_program_says_what_to_do() -> None:
    with pytest.raises(RunnerError, match="cannot start 'no-such-program'"):
        LocalProcess(["no-such-program"], {}, print).run()


def test_timeout_ends_the_whole_group() -> None:
    lines: list[str] = []
    source = "import subprocess, time; p = subprocess.Popen(['sleep', '60']); print(p.pid); time.sleep(60)"
    with pytest.raises(RunnerError, match=r"longer than 0\.7 s"):
        run_python(source, lines, timeout_seconds=0.7)
    assert not alive(int(lines[0]))


def test_stop_from_a_signal_handler_does_not_deadlock() -> None:
    process = LocalProcess([sys.executable, "-c", "import time; time.sleep(60)"], {}, print)
    previous = signal.signal(signal.SIGUSR1, lambda *_: process.stop("the task was told to stop"))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(RunnerError, match="told to stop"):
            process.run()
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_stop_before_start_never_starts() -> None:
    process = LocalProcess(["true"], {}, print)
    process.stop("the task was told to stop")
    with pytest.raises(RunnerError, match="was not started"):
        process.run()


def test_killed_parent_takes_the_process_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import sys; from airflow_mlops_provider.hooks.local_process import LocalProcess;"
        f"LocalProcess([sys.executable, '-c', {child!r}], {{}}, print).run()"
    )
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", parent])
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.3)
    assert not alive(int(pid_file.read_text()))


def test_result_that_is_not_json_is_named() -> None:
    with pytest.raises(RunnerError, match="not JSON"):
        run_python("import os; open(os.environ['MLOPS_XCOM_PATH'], 'w').write('rows: 3')")
