"""The trace of a run as people read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from dmqnode.batch import MAX_MESSAGES, parse
from dmqnode.errors import ProtocolError
from dmqnode.messages import Message, Record
from dmqnode.peer_messages import Answer, Forward
from dmqnode.records import Unreadable, decode_batch
from dmqnode.wire import decode
from tests.simulation.concerning import Concern, Numbers, Written

QUIET = ("Renew", "Renewed", "CatalogDigest", "RosterIs")
"""Messages that say nothing in a story, unless asked for."""
COMMON = ("met", "gone", "log")
"""First words of lines that say nothing in the story of a message."""


def story(
    log: Iterable[tuple[Any, ...]], about: bytes = b"", last: int = 60, since: float = 0.0, until: float = 1e9
) -> str:
    """Return the last lines of a trace; with `about`, of the messages that have these bytes in them."""
    lines: list[str] = []
    for line in reversed(list(log)):
        what = line[-1]
        if not since <= line[0] <= until or isinstance(what, Written) or type(what).__name__ in QUIET:
            continue
        if about and isinstance(what, Message) and about not in _bytes(what):
            continue
        lines.append(_line(line))
        if len(lines) >= last:
            break
    return "\n".join(reversed(lines))


def story_of(log: Iterable[tuple[Any, ...]], concern: Concern, last: int = 60) -> str:
    """Return the last lines of a trace that concern a message, and what happened to nodes meanwhile."""
    lines: deque[tuple[int, str]] = deque(maxlen=last)
    events: deque[tuple[int, str]] = deque(maxlen=last // 2)
    for n, line in enumerate(log):
        if why := concern.why(line):
            lines.append((n, _line(line, f"[{why}] ")))
        elif lines and not isinstance(line[-1], Message | Written | Numbers) and line[1] not in COMMON:
            events.append((n, _line(line)))
    return "\n".join(text for _, text in sorted([*lines, *events]))


def _line(line: tuple[Any, ...], why: str = "") -> str:
    time, *where, what = line
    if isinstance(what, Message):
        return f"{time:9.4f} {'->'.join(map(_name, where))} {why}{_text(_opened(what))[:260]}"
    told = f"{len(what)} records written" if isinstance(what, Written) else _name(what)
    return " ".join((f"{time:9.4f}", *map(_name, where), why + told))


def _opened(message: Message) -> Any:
    """Return a message with the request or answer that it carries."""
    if isinstance(message, Forward):
        return ("Forward", message.n & 0xFFFF, decode(message.request)[1])
    if isinstance(message, Answer):
        return ("Answer", message.n & 0xFFFF, decode(message.answer)[1])
    return message


def _text(value: Any) -> str:
    if isinstance(value, Record):
        fields = ", ".join(f"{f}={_text(getattr(value, f))}" for f in value.FIELDS)
        return f"{type(value).__name__}({fields})"
    if isinstance(value, bytes):
        return _name(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _name(what: Any) -> str:
    if not isinstance(what, bytes):
        return str(what)
    if what[:4] == b"node" and len(what) == 8:
        return f"n{int(what[4:])}"
    if what[:4] == b"node" and len(what) == 20:
        return f"log{int(what[4:8])}.{what[11]}.{what[19]}"
    if len(what) == 10:
        return f"#{what[:3].hex()}.{what[9]}"
    for read in (lambda: parse(what), lambda: decode_batch(what)[2]):
        try:
            batch = read()
        except (ProtocolError, Unreadable):
            continue
        if batch.count < MAX_MESSAGES:
            return "batch" + ",".join(b[:6].lstrip(b"0").decode("ascii", "replace") for b in batch.bodies())
    return f"<{len(what)}>" if len(what) > 12 else what.hex()


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, Record):
        value = value.values()
    return b"|".join(map(_bytes, value)) if isinstance(value, list | tuple) else b""
