"""What the broker asks of its shell, besides reads (`reads`) and writes (`Broker.collect`)."""

from __future__ import annotations

from typing import NamedTuple

from dmqnode.messages import Message


class Reply(NamedTuple):
    """Answer request `number` of `session`; `size` bytes of its request were counted as under way."""

    session: int
    number: int
    message: Message
    size: int = 0


class Compact(NamedTuple):
    """Have the store give back the space of what was deleted between two keys."""

    start: bytes
    stop: bytes
