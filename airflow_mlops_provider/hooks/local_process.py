"""Running a program on this machine under the same contract as a container.

Decides how a local process is started, watched and ended: its own process group, an environment that holds nothing but
what it is given, streamed output, a deadline. What the program is told is the caller's business. Does I/O; no Airflow.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from airflow_mlops_provider.exceptions import RunnerError

#: All that a process inherits: enough to find programs, certificates and the time zone. Airflow's own configuration
#: and connections live in the worker's environment, and a model is code.
INHERITED_NAMES: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NO_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
)
#: Names the file that takes the place of ``/airflow/xcom/return.json``, which no ordinary user may write.
RESULT_PATH_NAME: Final = "MLOPS_XCOM_PATH"

_GRACE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_TAIL_LINES = 15


class LocalProcess:
    """One run of one program.

    :param command: program and arguments; never a shell string.
    :param variables: the program's environment, beside :data:`INHERITED_NAMES`.
    :param on_line: called with each line of output, in order.
    """

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        self._command = list(command)
        self._variables = dict(variables)
        self._on_line = on_line
        self._process: subprocess.Popen[str] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._stopped_because: str | None = None

    def run(self, *, timeout_seconds: float | None = None) -> Any:
        """Run to the end and return what the program left as its result: JSON, or None.

        :raises RunnerError: the program is missing, ended with an error, ran out of time or was stopped; the message
            carries its last lines.
        """
        directory = Path(tempfile.mkdtemp(prefix="mlops-run-"))
        try:
            return self._run_in(directory, timeout_seconds)
        finally:
            self._end()
            shutil.rmtree(directory, ignore_errors=True)

    def stop(self, reason: str = "it was stopped") -> None:
        """Ask the process and everything it started to end; after a grace period they are killed.

        Returns at once and takes no lock, so that a signal handler may call it.
        """
        if self._stopped_because:
            return
        self._stopped_because = reason
        process = self._process
        if process is None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        killer = threading.Timer(_GRACE_SECONDS, _signal_group, (process.pid, signal.SIGKILL))
        killer.daemon = True
        killer.start()

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_SECONDS)
        # What the program left running in its group ends with it.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()

    def _run_in(self, directory: Path, timeout_seconds: float | None) -> Any:
        if self._stopped_because:
            raise RunnerError(f"{self._command[0]} was not started because {self._stopped_because}")
        result_file = directory / "return.json"
        inherited = {name: os.environ[name] for name in INHERITED_NAMES if name in os.environ}
        # Programs installed beside this Python are found even where nobody activated its environment.
        programs = os.pathsep.join([inherited.get("PATH", os.defpath), str(Path(sys.executable).parent)])
        own = {"PATH": programs, "HOME": str(directory), "TMPDIR": str(directory), RESULT_PATH_NAME: str(result_file)}
        try:
            self._process = subprocess.Popen(
                self._command,
                env={**inherited, **own, **self._variables},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="backslashreplace",
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise RunnerError(
                f"cannot start {self._command[0]!r}: {error.strerror}; install it where this worker runs, "
                "or name another command in the declaration"
            ) from error
        if self._stopped_because:  # a signal came while the process was being started
            _signal_group(self._process.pid, signal.SIGTERM)
        with self._deadline(timeout_seconds):
            self._follow(self._process)
        return self._result(result_file)

    @contextmanager
    def _deadline(self, seconds: float | None) -> Iterator[None]:
        if seconds is None:
            yield
            return
        timer = threading.Timer(seconds, self.stop, [f"it took longer than {seconds:g} s"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _follow(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            text = line.rstrip("\n")
            self._tail.append(text)
            self._on_line(text)
        process.wait()

    def _result(self, result_file: Path) -> Any:
        code = self._process.returncode if self._process else 0
        tail = "\n".join(self._tail)
        if self._stopped_because:
            raise RunnerError(f"{self._command[0]} was ended because {self._stopped_because}. Its last lines:\n{tail}")
        if code:
            ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise RunnerError(f"{self._command[0]} failed with {ended}. Its last lines:\n{tail}")
        if not result_file.exists():
            return None
        try:
            return json.loads(result_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunnerError(f"{self._command[0]} left a result that is not JSON: {error}") from error


def _signal_group(group_id: int, number: signal.Signals) -> None:
    try:
        os.killpg(group_id, number)
    except (ProcessLookupError, PermissionError):
        return


def _die_with_parent() -> None:
    # A killed worker must not leave a scoring process behind. Linux only; elsewhere the group is ended by stop().
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
