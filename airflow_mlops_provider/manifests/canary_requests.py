"""What the two versions are asked: the same requests, each under the name that the version serves.

Decides where the requests come from and which path they are sent to. Pure, no I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from airflow_mlops_provider.manifests.inference_service_request import EXAMPLE_PATH, SmokeTest, prediction_path

#: The requests travel in a trigger's arguments, which Airflow keeps in its database.
_MOST_BYTES: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One request, in JSON types.

    :param path: as the stable service is asked.
    """

    path: str
    body: Any

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def build_probes(
    *,
    name: str,
    protocol: str,
    smoke_test: SmokeTest | None,
    requests: Sequence[Any] | None = None,
    rows: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Probe, ...]:
    """Return the requests that take turns; none where the model's input example is to be sent.

    :param name: of the stable service.
    :param requests: bodies in the words of the protocol.
    :param rows: records; each becomes a request of its own to ``/invocations``.
    :raises ValueError: both are given, one is empty or too large, or a row is no record.
    """
    if requests is not None and rows is not None:
        raise ValueError("probe_requests stands beside probe_rows: give one of the two")
    if requests is not None:
        path = prediction_path(protocol, name)
        return _checked("probe_requests", [Probe(path=path, body=body) for body in requests])
    if rows is not None:
        for row in rows:
            if not isinstance(row, Mapping):
                raise ValueError(f"probe_rows: a row is a record, {{column: value}}, not {type(row).__name__}")
        return _checked(
            "probe_rows", [Probe(path=EXAMPLE_PATH, body={"dataframe_records": [dict(row)]}) for row in rows]
        )
    if smoke_test is not None and smoke_test.request is not None:
        return _checked("smoke_test.request", [Probe(path=smoke_test.path, body=smoke_test.request)])
    return ()


def example_probe(example: Any) -> Probe:
    """Return the request that was saved with the model."""
    return _checked("the model's input example", [Probe(path=EXAMPLE_PATH, body=example)])[0]


def path_for(path: str, stable: str, service: str) -> str:
    """Return *path* under the name of another service: v1 and v2 put the service's name into it."""
    return re.sub(rf"/models/{re.escape(stable)}(?=[/:]|$)", f"/models/{service}", path)


def _checked(source: str, probes: Sequence[Probe]) -> tuple[Probe, ...]:
    if not probes:
        raise ValueError(f"{source} holds no request; leave it out, or give at least one")
    size = len(json.dumps([probe.to_dict() for probe in probes]).encode())
    if size > _MOST_BYTES:
        raise ValueError(f"{source} has {size} bytes, {_MOST_BYTES} are allowed; give fewer rows")
    return tuple(probes)
