"""One JSON object per line on standard error, for our own lines and for those of every library. No payloads.

An exception's text is logged with its traceback, since nobody could mend a model without it; it is redacted like all.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys

from mlops_runtime.errors import redact

LOGGER_NAME = "mlops_runtime.serving"
#: The attribute of a log record that holds further fields of the line.
FIELDS = "mlops_fields"
_QUIET = ("uvicorn.access", "kserve.trace", "httpx", "urllib3")


class JsonFormatter(logging.Formatter):
    """Turn a log record into one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {"time": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        if record.name != LOGGER_NAME:
            line["logger"] = record.name
        line.update(getattr(record, FIELDS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, ensure_ascii=False, default=str))


def configure_logging() -> None:
    """Send everything that is logged or warned about to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def log(event: str, severity: int = logging.INFO, problem: BaseException | None = None, **fields: object) -> None:
    """Write one line, with the traceback of a problem if there is one."""
    logging.getLogger(LOGGER_NAME).log(severity, event, exc_info=problem, extra={FIELDS: fields})
