"""What is noted about the request that is being answered: the middleware opens a note, whoever knows more adds to it.

A context variable carries it, so that neither the SDK nor a model's thread has to hand it on. No I/O.
"""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar
from dataclasses import dataclass

_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class RequestNote:
    """One request. ``reason`` is the class of the error that answered it, empty where all went well."""

    request_id: str
    protocol: str = ""
    model: str = ""
    rows: int = 0
    reason: str = ""


_current: ContextVar[RequestNote | None] = ContextVar("mlops_request", default=None)


def open_note(given_id: str, protocol: str) -> RequestNote:
    """Begin the note of one request; an ID that could not stand in a log line or a header is replaced."""
    note = RequestNote(given_id if _ID.fullmatch(given_id) else uuid.uuid4().hex, protocol)
    _current.set(note)
    return note


def current_note() -> RequestNote:
    """Return the note of the request that is being answered; outside of one (the warm-up), a blank one."""
    return _current.get() or RequestNote("-")
