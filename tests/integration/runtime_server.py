"""A real ``mlops-runtime serve`` process for tests: start, ask, read its log, stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_SECONDS = 240


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RuntimeServer:
    """One server process; ``with`` waits until it is ready and stops it at the end."""

    def __init__(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "serve.log"
        self.termination = folder / "termination-log"
        self.termination.touch()
        dropped = ("MODEL_", "MLOPS_", "MLFLOW_", "PORT")
        own = {"MLOPS_TERMINATION_LOG": str(self.termination), **(environment or {})}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        program = str(Path(sys.executable).with_name("mlops-runtime"))
        command = [program, "serve", "--host", "127.0.0.1", "--port", str(self.port), *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=inherited | own, cwd=folder)

    def __enter__(self) -> RuntimeServer:
        try:
            self.wait_until_ready()
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.is_ready():
                return
            time.sleep(0.05)
        raise AssertionError(f"the server did not become ready: {self.log.read_text()[-3000:]}")

    def is_ready(self) -> bool:
        try:
            return self.get("/v2/health/ready").status == 200
        except OSError:
            return False

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def get(self, path: str) -> Answer:
        return self.send(urllib.request.Request(self.url + path))

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(
            urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})})
        )

    def send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as problem:
            return Answer(problem.code, dict(problem.headers), problem.read())

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The log's JSON lines, those of one event if named."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if not event or line["event"] == event]

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The one line of a request; it is written just after the answer was sent."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            found = [line for line in self.lines("request") if line.get("request_id") == request_id]
            if found:
                assert len(found) == 1, found
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"no line of {request_id}: {self.log.read_text()[-3000:]}")
