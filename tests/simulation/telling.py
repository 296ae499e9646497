"""The trace of a run as people read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dmqnode.batch import MAX_MESSAGES, parse
from dmqnode.errors import ProtocolError
from dmqnode.messages import Message, Record
from dmqnode.peer_messages import Answer, Forward
from dmqnode.records import Unreadable, decode_batch
from dmqnode.wire import decode

QUIET = ("Renew", "Renewed", "CatalogDigest", "RosterIs")
"""Messages that say nothing in a story, unless asked for."""


def story(
    log: Iterable[tuple[Any, ...]], about: bytes = b"", last: int = 60, since: float = 0.0, until: float = 1e9
) -> str:
    """Return the last lines of a trace; with `about`, of the messages that have these bytes in them."""
    lines: list[str] = []
    for time, *what in reversed(list(log)):
        if not since <= time <= until:
            continue
        if len(what) == 3 and isinstance(what[2], Message):
            message = what[2]
            if type(message).__name__ in QUIET or (about and about not in _bytes(message)):
                continue
            lines.append(f"{time:9.4f} {_name(what[0])}->{_name(what[1])} {_text(_opened(message))[:260]}")
        else:
            lines.append(f"{time:9.4f} {' '.join(_name(w) for w in what)}")
        if len(lines) >= last:
            break
    return "\n".join(reversed(lines))


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
