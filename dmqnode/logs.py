"""The node's log: one line per event on stderr, as text or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

log = logging.getLogger("dmq")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {k}={v}" for k, v in getattr(record, "fields", {}).items())
        return f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{fields}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **fields,
        }
        return json.dumps(line, default=str)


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def start_logging(format_: str) -> None:
    """Send the log to stderr.

    Arguments:
        format_: text or json.
    """
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(_Json() if format_ == "json" else _Text())
    log.handlers[:] = [output]
    log.setLevel(logging.INFO)
    log.propagate = False


def say(message: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one event.

    Arguments:
        message: a short sentence without variables.
        fields: what varies.
    """
    log.log(level, message, extra={"fields": fields})
