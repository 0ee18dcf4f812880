"""Bodies of answers: JSON as bytes, and errors in the form that the protocol of the request has. Pure.

v1 and v2: ``{"error": "…", "request_id": "…"}``. MLflow: ``{"error_code": "…", "message": "…", "request_id": "…"}``.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from mlops_runtime.serving.notes import RequestNote

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_MLFLOW_CODES = {
    400: "BAD_REQUEST", 404: "ENDPOINT_NOT_FOUND", 405: "BAD_REQUEST", 415: "BAD_REQUEST", 500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip


def json_bytes(content: Any) -> bytes:
    """Encode; NaN and infinities become ``null``."""
    return orjson.dumps(content, option=_OPTIONS)


def json_reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(json_bytes(content), status, headers, "application/json")


def problem_body(note: RequestNote, status: int, text: str) -> dict[str, str]:
    """Return the body of an error."""
    if note.protocol == "mlflow":
        return {
            "error_code": _MLFLOW_CODES.get(status, "BAD_REQUEST"), "message": text, "request_id": note.request_id,
        }  # fmt: skip
    return {"error": text, "request_id": note.request_id}
