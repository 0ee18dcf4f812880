"""What one call of ``mlops-runtime serve`` is asked to do: flags first, then the environment, then defaults.

Checks what can be checked without I/O; goes from the first process to its workers as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from mlops_runtime.errors import UsageError
from mlops_runtime.sources import parse_source

#: KServe's storage initializer leaves the model there.
MODEL_DIRECTORY = "/mnt/models"
_NAME = re.compile(r"[^/\s:?#%]+")
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """One server.

    :param model_dir: a directory with a model; where it holds none, ``model_uri`` is fetched.
    :param model_uri: which model this is, also where the directory came from elsewhere.
    :param digest: what the model's ``MLmodel`` must have, or empty: not checked.
    :param model_name: its name in the paths of the protocols.
    :param threads: predictions that run at the same time in one process; more than 1 needs a model that can.
    :param drain_seconds: after SIGTERM: how long new requests are still answered, while Kubernetes spreads the word.
    :param grace_seconds: after that: how long running requests may take.
    """

    model_dir: str = MODEL_DIRECTORY
    model_uri: str = ""
    digest: str = ""
    tracking_uri: str = ""
    model_name: str = "model"
    run_id: str = ""
    version: str = ""
    host: str = "0.0.0.0"  # noqa: S104  # a pod is reached from outside
    port: int = 8080
    workers: int = 1
    threads: int = 1
    drain_seconds: float = 5.0
    grace_seconds: int = 20

    def to_json(self) -> str:
        """Return what :meth:`from_json` takes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServeSettings:
        """Rebuild settings on the far side of a process border."""
        return cls(**json.loads(text))


def build_serve_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> ServeSettings:
    """Merge flags over environment.

    :param flags: flag name with underscores (``model_uri``) → text, or ``None`` where it was not given.
    :raises UsageError: a value makes no sense.
    """

    def value(flag: str, variable: str, default: str = "") -> str:
        given = flags.get(flag)
        return (given if given is not None else environment.get(variable) or default).strip()

    def number(flag: str, variable: str, default: float, least: float, kind: Callable[[str], float]) -> float:
        return _number(value(flag, variable, str(default)), f"--{flag.replace('_', '-')}", least, kind)

    defaults = ServeSettings()
    source = parse_source(value("model_uri", "MODEL_URI"), value("model_digest", "MODEL_DIGEST"))
    name = value("model_name", "MODEL_NAME", defaults.model_name)
    if not _NAME.fullmatch(name):
        raise UsageError(f"model name {name!r} cannot stand in a path; set MODEL_NAME without spaces, /, :, ?, # and %")
    port = int(number("port", "PORT", defaults.port, 0, int))
    if port > _HIGHEST_PORT:
        raise UsageError(f"--port is {port}; use at most {_HIGHEST_PORT}")
    return ServeSettings(
        model_dir=value("model_dir", "MODEL_DIR", defaults.model_dir),
        model_uri=source.uri,
        digest=source.digest,
        tracking_uri=value("tracking_uri", "MLFLOW_TRACKING_URI"),
        model_name=name,
        run_id=environment.get("MODEL_RUN_ID", "").strip(),
        version=environment.get("MODEL_VERSION", "").strip(),
        host=value("host", "MLOPS_HOST", defaults.host),
        port=port,
        workers=int(number("workers", "MLOPS_WORKERS", defaults.workers, 1, int)),
        threads=int(number("threads", "MLOPS_THREADS", defaults.threads, 1, int)),
        drain_seconds=number("drain_seconds", "MLOPS_DRAIN_SECONDS", defaults.drain_seconds, 0, float),
        grace_seconds=int(number("grace_seconds", "MLOPS_GRACE_SECONDS", defaults.grace_seconds, 0, int)),
    )


def _number(text: str, name: str, least: float, kind: Callable[[str], float]) -> float:
    try:
        found = kind(text)
    except ValueError:
        found = float("nan")
    if not least <= found < float("inf"):
        raise UsageError(f"{name} is {text!r}; use a {'whole ' if kind is int else ''}number of at least {least}")
    return found
