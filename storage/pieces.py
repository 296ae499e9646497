"""Cutting a range of keys where it holds much, so that work on it can stop in between."""

from __future__ import annotations

from collections.abc import Iterator

import plyvel

PIECE = 64 << 20
"""Bytes on disk that one piece should hold; a second or so of compaction."""
SPARE = 32
"""How many bytes longer than `start` and `stop` the keys are between which a cut is looked for."""


def pieces(db: plyvel.DB, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield ranges that make up `start` <= key < `stop`, in order, each of about PIECE bytes or less."""
    width = max(len(start), len(stop)) + SPARE
    waiting = [(_number(start, width), _number(stop, width))]
    begun = start
    while waiting:
        low, high = waiting.pop()
        middle = (low + high) // 2
        if low < middle and db.approximate_size(_key(low, width), _key(high, width)) > PIECE:
            waiting += [(middle, high), (low, middle)]
        elif waiting and db.approximate_size(begun, _key(high, width)) > PIECE // 2:
            yield begun, _key(high, width)
            begun = _key(high, width)
    yield begun, stop


def _number(key: bytes, width: int) -> int:
    return int.from_bytes(key.ljust(width, b"\x00"), "big")


def _key(number: int, width: int) -> bytes:
    return number.to_bytes(width, "big")
