"""The node's log: one line per event on stderr, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime

log = logging.getLogger("dmq")

BURST = 10
"""Lines of one message that `say_rarely` lets through in each PERIOD."""
PERIOD = 60.0
_PLAIN = re.compile(r"[^\s\"=\\]+")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {k}={_quoted(v)}" for k, v in getattr(record, "fields", {}).items())
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


def _quoted(value: object) -> str:
    """Return a value as one word: what a client sent must not look like a line or a field of its own."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


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
    # A log that cannot be written (closed pipe, full disk) is no reason to stop, nor for a traceback.
    logging.raiseExceptions = False


def say(message: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log one event.

    Arguments:
        message: a short sentence without variables.
        fields: what varies.
    """
    log.log(level, message, extra={"fields": fields})


class Ration:
    """Lets BURST of each message through per PERIOD, and counts the others.

    The messages must be of a fixed number, as sentences without variables are.
    """

    def __init__(self) -> None:
        self._periods: dict[str, tuple[float, int]] = {}

    def take(self, message: str, now: float) -> int | None:
        """Return how many were held back before this one; None: this one is held back, too.

        Arguments:
            now: seconds, from any start.
        """
        began, count = self._periods.get(message, (now, 0))
        held_back = 0
        if now - began >= PERIOD:
            held_back, began, count = max(0, count - BURST), now, 0
        self._periods[message] = began, count + 1
        return held_back if count < BURST else None


_ration = Ration()


def say_rarely(message: str, *, level: int = logging.WARNING, **fields: object) -> None:
    """Log an event that whoever reaches the port can cause as often as they like: only now and then."""
    held_back = _ration.take(message, time.monotonic())
    if held_back is not None:
        say(message, level=level, **fields, **({"held_back": held_back} if held_back else {}))
