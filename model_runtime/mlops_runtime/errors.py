"""The runtime's error tree; the class decides the exit code, the message names object, cause and next step.

::

    RuntimeProblem                 exit 1: the input or the state says no
    ├── ModelError                 the model is missing, unreadable or fails while it predicts
    │   └── ModelDigestError       the artifact is not the one that was pinned
    ├── InputError                 a file, a column or a value is not what the model's signature asks for
    ├── OutputError                the predictions cannot be written where they should go
    ├── UsageError                 exit 2: a flag or a variable is missing or makes no sense
    └── UnreachableError           exit 2: a server does not answer; the same call may succeed later

Anything else that escapes is a bug and keeps its traceback. The module does no I/O; it reads the environment only to
keep secrets out of messages.
"""

from __future__ import annotations

import os
import re

DONE, REFUSED, UNUSABLE = 0, 1, 2

_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+@")
_SECRET_VARIABLE = re.compile(r"(PASSWORD|SECRET|TOKEN|ACCESS_KEY|CREDENTIAL|PRIVATE_KEY)", re.IGNORECASE)
_SHORTEST_SECRET = 6  # shorter values would blank out ordinary words
_NETWORK_WORDS = re.compile(
    r"NETWORK_CONNECTION|curlCode|[Cc]onnection (refused|reset|error|aborted)|Max retries exceeded|timed? ?out"
    r"|Name or service not known|Temporary failure in name resolution|Could not connect|NewConnectionError"
    r"|EndpointConnectionError|too many 5\d\d error responses|error code 50[234]",
)


class RuntimeProblem(Exception):  # noqa: N818  # the word its messages and the exit code are about
    """Base of every failure the program foresees."""

    exit_code = REFUSED


class ModelError(RuntimeProblem):
    """The model is missing, unreadable, or raises while it predicts."""


class ModelDigestError(ModelError):
    """The model that lies there is not the one that was pinned."""


class InputError(RuntimeProblem):
    """A file, a column or a value is not what the model's signature asks for."""


class OutputError(RuntimeProblem):
    """The predictions cannot be written where they should go."""


class UsageError(RuntimeProblem):
    """A flag or a variable is missing or makes no sense."""

    exit_code = UNUSABLE


class UnreachableError(RuntimeProblem):
    """A server does not answer."""

    exit_code = UNUSABLE


def is_unreachable(problem: BaseException) -> bool:
    """Tell whether a client library's error, or one of its causes, means that nobody answered."""
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, (ConnectionError, TimeoutError)) or _NETWORK_WORDS.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def redact(text: str) -> str:
    """Blank out user info of URLs and the values of secret-looking variables."""
    text = _USERINFO.sub("***@", text)
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def one_line(problem: BaseException, limit: int = 500) -> str:
    """Return type and message of a foreign exception as one redacted line of at most ``limit`` characters."""
    text = " ".join(redact(f"{type(problem).__name__}: {problem}").split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
