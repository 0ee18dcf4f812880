"""Server processes of the demonstration and the tests: started, watched, and ended without a trace.

Decides how a process is started (own process group, own log file, an environment without the user's Airflow, MLflow or
Git settings), when it counts as ready, and how it and all that it started is ended. What is started is decided by its
neighbours. Does I/O.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, TypeVar

from airflow_mlops_provider.exceptions import MLOpsProviderError

Progress = Callable[[str], None]
"""Told what is being waited for; called often, with the same text until something changes."""

T = TypeVar("T")

_MARK: Final = "MLOPS_DEMO_PROCESS"
_POLL_SECONDS = 0.2
_TERM_SECONDS = 8.0
_KILL_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_FOREIGN_PREFIXES = ("AIRFLOW", "_AIRFLOW", "MLFLOW", "_MLFLOW", "GIT_", "PYTHONPATH", "PYTHONHOME", _MARK)


class DemoError(MLOpsProviderError):
    """A part of the demonstration did not start or did not do its work.

    :param log: file that tells why.
    :param tail: its last lines.
    """

    def __init__(self, message: str, *, log: Path | None = None, tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log = log
        self.tail = tuple(tail)


def silent(_text: str) -> None:
    """Ignore progress."""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return ports that nobody listens on; all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]


def check_port(port: int, host: str = "127.0.0.1") -> int:
    """Return the port if it can be listened on.

    :raises DemoError: somebody else does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"port {port} on {host} cannot be used ({error.strerror})"
            raise DemoError(f"{reason}; choose another, or none to get a free one") from error
    return port


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings of Airflow, MLflow, Git and Python, and with another home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {
        **kept,
        "PATH": programs,
        "HOME": str(home),
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        **(extra or {}),
    }


class ManagedProcess:
    """One program and everything it starts.

    :param name: what people call it.
    :param log: both output streams, appended.
    """

    def __init__(self, name: str, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self.name, self.log = name, log
        self._command, self._cwd, self._env = list(command), cwd, dict(env)
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start(self) -> ManagedProcess:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env={**self._env, _MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        return self

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def exit_code(self) -> int | None:
        return self._process.poll() if self._process else None

    def check(self) -> None:
        """:raises DemoError: it has ended."""
        if self.exit_code() is not None:
            raise DemoError(
                f"{self.name} ended with exit code {self.exit_code()}", log=self.log, tail=read_tail(self.log)
            )

    def finish(self, *, timeout_seconds: float, progress: Progress = silent) -> None:
        """Wait until it ends by itself.

        :raises DemoError: it failed, or was not done in time.
        """
        wait_until(lambda: self.exit_code() is not None, self.name, timeout_seconds, log=self.log, progress=progress)
        if self.exit_code() != 0:
            self.check()

    def stop(self) -> None:
        """End the process and all that it started, first politely. Safe to call twice."""
        if self._process is None or self._stopped:
            return
        for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            self._signal(number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and (self._process.poll() is None or self._descendants()):
                time.sleep(_POLL_SECONDS / 4)
        self._process.wait()
        self._stopped = True

    def ask_to_stop(self) -> None:
        """Send SIGTERM and do not wait; :meth:`stop` does."""
        if self.exit_code() is None:
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        group = None
        if self._process.poll() is None:  # only then is the number surely still this group's
            group = self._process.pid
            os.killpg(group, number)
        for pid in self._descendants():
            with suppress(ProcessLookupError):
                if os.getpgid(pid) != group:
                    os.kill(pid, number)

    def _descendants(self) -> list[int]:
        """Find what this process started, in whatever group or session it is now (Linux only).

        A process that left the session carries the mark; one that wrote its title over its environment, as Airflow's
        do, is still in the session.
        """
        if self._process is None:
            return []
        mark, session = f"{_MARK}={self._mark}".encode(), str(self._process.pid)
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                state, *fields = (directory / "stat").read_text().rpartition(")")[2].split()
                if state != "Z" and (fields[2] == session or mark in (directory / "environ").read_bytes().split(b"\0")):
                    found.append(int(directory.name))
        return [pid for pid in found if pid != self._process.pid]


def _end_with_parent() -> None:
    """Have Linux send SIGTERM when the parent is gone, ``kill -9`` included: nobody else would end the servers then."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_all(processes: Sequence[ManagedProcess]) -> None:
    """End several at the same time."""
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.stop()


def wait_until(
    check: Callable[[], T],
    what: str,
    timeout_seconds: float,
    *,
    processes: Sequence[ManagedProcess] = (),
    log: Path | None = None,
    progress: Progress = silent,
    poll_seconds: float = _POLL_SECONDS,
) -> T:
    """Call ``check`` until it returns something true, and return that.

    :param processes: must stay alive meanwhile.
    :raises DemoError: one of them ended, or the time is over.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (result := check()):
        for process in processes:
            process.check()
        if time.monotonic() > deadline:
            log = log or (processes[0].log if processes else None)
            tail = read_tail(log) if log else ()
            raise DemoError(f"{what}: not done within {timeout_seconds:.0f} s", log=log, tail=tail)
        progress(what)
        time.sleep(poll_seconds)
    return result


def read_tail(log: Path, lines: int = 15) -> list[str]:
    """Return the last lines of a log; none if there is no such file."""
    try:
        return log.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
