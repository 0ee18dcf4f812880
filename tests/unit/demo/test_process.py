"""Real processes: that they are watched while they run and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from airflow_mlops_provider.demo.process import (
    DemoError,
    ManagedProcess,
    check_port,
    clean_environment,
    free_ports,
    read_tail,
    wait_until,
)


def start(directory: Path, code: str) -> ManagedProcess:
    process = ManagedProcess(
        "program", [sys.executable, "-c", code], cwd=directory, env=dict(os.environ), log=directory / "log"
    )
    return process.start()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stopped_process_takes_along_what_it_started_in_other_sessions(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = start(tmp_path, code)
    child = int(wait_until(lambda: "".join(read_tail(process.log)), "child", 20))
    assert is_running(child)
    process.stop()
    assert process.exit_code() is not None
    assert not is_running(child)
    process.stop()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_mlops_provider.demo.process._TERM_SECONDS", 0.5)
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\ntime.sleep(60)"
    process = start(tmp_path, code)
    wait_until(lambda: read_tail(process.log), "start", 20)
    process.stop()
    assert process.exit_code() == -9


def test_waiting_ends_when_the_process_does_and_shows_its_last_lines(tmp_path: Path) -> None:
    process = start(tmp_path, "print('out of memory'); raise SystemExit(3)")
    with pytest.raises(DemoError, match="exit code 3") as caught:
        wait_until(lambda: False, "server", 30, processes=[process])
    assert caught.value.tail == ("out of memory",)
    assert caught.value.log == tmp_path / "log"


def test_waiting_has_an_end_and_tells_its_progress(tmp_path: Path) -> None:
    told: list[str] = []
    started = time.monotonic()
    with pytest.raises(DemoError, match="server: not done within 0 s"):
        wait_until(lambda: None, "server", 0.3, progress=told.append, poll_seconds=0.05)
    assert time.monotonic() - started < 5
    assert set(told) == {"server"}


def test_finish_reports_a_failed_program(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="exit code 1"):
        start(tmp_path, "raise SystemExit(1)").finish(timeout_seconds=20)
    start(tmp_path, "pass").finish(timeout_seconds=20)


def test_ports_are_different_and_a_used_one_is_refused() -> None:
    assert len(set(free_ports(5))) == 5
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        with pytest.raises(DemoError, match=f"port {port} on 127.0.0.1 cannot be used"):
            check_port(port)
    assert check_port(port) == port


def test_the_users_settings_do_not_reach_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIRFLOW_HOME", "AIRFLOW__CORE__DAGS_FOLDER", "MLFLOW_TRACKING_URI", "GIT_DIR", "PYTHONPATH"):
        monkeypatch.setenv(name, "/home/somebody")
    environment = clean_environment(tmp_path, {"AIRFLOW_HOME": str(tmp_path)})
    assert "/home/somebody" not in environment.values()
    assert environment["HOME"] == environment["AIRFLOW_HOME"] == str(tmp_path)
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))


def test_a_killed_parent_takes_its_servers_along(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from airflow_mlops_provider.demo.process import ManagedProcess\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"directory = Path({str(tmp_path)!r})\n"
        "child = ManagedProcess('child', command, cwd=directory, env=dict(os.environ), log=directory / 'child.log')\n"
        "print(child.start().pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = start(tmp_path, code)
    child = int(wait_until(lambda: "".join(read_tail(parent.log)), "child", 30))
    assert parent.pid is not None
    os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(child), "the child's end", 20)
    parent.stop()


def test_what_outlives_a_killed_server_is_ended_even_without_its_environment(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={})\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    process = start(tmp_path, code)
    child = int(wait_until(lambda: "".join(read_tail(process.log)), "child", 30))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: process.exit_code() is not None, "the end", 20)
    assert is_running(child)
    process.stop()
    assert not is_running(child)
