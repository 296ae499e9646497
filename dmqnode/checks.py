"""What a caller gives, checked before any of it is written.

A node hangs up on bytes that are not the protocol, and all calls of a client share its connections: so what
one task gave in the wrong type or as half a character must not get as far as that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

from dmqnode.errors import UsageError
from dmqnode.messages import Message

LARGEST = 2**63 - 1
"""Of whole numbers on the wire."""
DEEPEST = 16
"""Maps and lists inside a setting."""

Check = Callable[[str, Any], object]


def text(what: str, value: Any) -> str:
    """Return a text that can be written as UTF-8.

    Errors: UsageError, naming `what` it is.
    """
    if not isinstance(value, str):
        raise _wrong(what, value, "a text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _wrong(what, value, "valid Unicode, without halves of surrogate pairs") from None
    return value


def number(what: str, value: Any) -> float:
    """Return a finite number.  Errors: UsageError."""
    # true and false are whole numbers in Python, and others on the wire.
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(what, value, "a number")
    if not -LARGEST <= value <= LARGEST and (isinstance(value, int) or not math.isfinite(value)):
        raise _wrong(what, value, "a finite number")
    return value


def whole(what: str, value: Any) -> int:
    """Return a whole number that is not negative.  Errors: UsageError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise _wrong(what, value, "a whole number of at least 0")
    return value


def check_send(queue: Any, delay: Any, create: Any) -> None:
    """Check what goes with the batch of a send.

    Errors: UsageError, naming what is wrong.
    """
    text("queue", queue)
    if delay is not None:
        number("delay", delay)
    _flag("create", create)


def check_request(request: Message) -> None:
    """Check the fields of any other request, but for what names deliveries: that comes from receipts.

    Errors: UsageError, naming the field.
    """
    for name, check in _checks_of(type(request)):
        check(name, getattr(request, name))


def _wrong(what: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"{what} is {value!r:.80}; it must be {wanted}")


def _flag(what: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(what, value, "True or False")


def _bytes(what: str, value: Any) -> None:
    if not isinstance(value, bytes):
        raise _wrong(what, value, "bytes")


def _settings(what: str, value: Any) -> None:
    for name, setting in value.items():
        text("the name of a setting", name)
        _plain(name, setting, DEEPEST)


def _plain(what: str, value: Any, deep: int) -> None:
    """Check what may be in a map: what a node does not know of it is for the node to say."""
    match value:
        case None | bool() | bytes():
            pass
        case str():
            text(what, value)
        case int() | float():
            number(what, value)
        case list() | tuple() if deep:
            for inner in value:
                _plain(what, inner, deep - 1)
        case dict() if deep:
            for key, inner in value.items():
                text(what, key)
                _plain(what, inner, deep - 1)
        case _:
            raise _wrong(what, value, "a text, a number, True, False or None")


def _if_any(check: Check) -> Check:
    return lambda what, value: None if value is None else check(what, value)


_CHECKS: dict[Any, Check] = {
    str: text,
    int: whole,
    float: number,
    bool: _flag,
    bytes: _bytes,
    dict[str, Any]: _settings,
    str | None: _if_any(text),
    float | None: _if_any(number),
    bytes | None: _if_any(_bytes),
}


@cache
def _checks_of(kind: type[Message]) -> list[tuple[str, Check]]:
    hints = get_type_hints(kind)
    return [(name, _CHECKS[hints[name]]) for name in kind.FIELDS if hints[name] in _CHECKS]
