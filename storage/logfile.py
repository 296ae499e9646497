"""Reading LevelDB's log format, to see whether a file of it is whole, and to write what is left of one anew.

LevelDB itself skips what it cannot read there and goes on without a word. Its logs hold the writes that are
not yet in tables; its MANIFEST, of the same format, says which tables there are.

    file     blocks of 32 KiB, each of records; the last 6 bytes or fewer of a block may be padding
    record   masked CRC-32C of type and content (u32), length of content (u16), type (u8), content
             (numbers are little-endian here)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from crc32c import crc32c

BLOCK = 32 << 10
LAST_PIECES = (1, 4)
"""Types of records that end a write: the whole of it, and the last of its pieces."""
FIRST_PIECES = (1, 2)
_HEADER = struct.Struct("<IHB")
_KINDS = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}
"""The type of a record, by whether it is the first and the last piece of its write."""


class State(Enum):
    """What is to be thought of a file."""

    WHOLE = "whole"
    TORN = "torn"
    """It ends in the middle of a record, or in zeros: a write that a crash cut short."""
    DAMAGED = "damaged"


class Found(NamedTuple):
    """The state of a file and, unless it is whole, where that begins."""

    state: State
    at: int


def inspect(raw: bytes) -> Found:
    """Say whether the log `raw` is whole."""
    at = 0
    while at < len(raw):
        room = BLOCK - at % BLOCK
        if room < _HEADER.size:
            at += room
            continue
        if len(raw) - at < _HEADER.size:
            return Found(State.TORN, at)
        check, length, kind = _HEADER.unpack_from(raw, at)
        end = at + _HEADER.size + length
        if kind == 0:
            return Found(State.DAMAGED if raw[at:].strip(b"\x00") else State.TORN, at)
        if end > len(raw) and length <= room - _HEADER.size:
            return Found(State.DAMAGED if _is_longer_than_written(raw, at, check) else State.TORN, at)
        if length > room - _HEADER.size or _mask(crc32c(raw[at + 6 : end])) != check:
            return Found(State.DAMAGED, at)
        at = end
    return Found(State.WHOLE, at)


def contents(raw: bytes) -> Iterator[bytes]:
    """Give the writes in the log `raw` one after the other, up to where it is whole."""
    return readable(raw[: inspect(raw).at])


def readable(raw: bytes) -> Iterator[bytes]:
    """Give all writes in the log `raw` that can be read, those behind damage, too.

    Where a record is damaged the rest of its block is passed over, for its length may be wrong.
    """
    pieces: list[bytes] | None = None
    for start in range(0, len(raw), BLOCK):
        at, stop = start, min(start + BLOCK, len(raw))
        while stop - at >= _HEADER.size:
            check, length, kind = _HEADER.unpack_from(raw, at)
            end = at + _HEADER.size + length
            if end > stop or kind not in _KINDS.values() or _mask(crc32c(raw[at + 6 : end])) != check:
                pieces = None
                break
            piece = raw[at + _HEADER.size : end]
            if kind in FIRST_PIECES:
                pieces = [piece]
            elif pieces is not None:
                pieces.append(piece)
            if kind in LAST_PIECES and pieces is not None:
                yield b"".join(pieces)
                pieces = None
            at = end


def written(writes: Iterable[bytes]) -> bytes:
    """Return a log that holds `writes`."""
    out = bytearray()
    for content in writes:
        at, first = 0, True
        while first or at < len(content):
            room = BLOCK - len(out) % BLOCK
            if room < _HEADER.size:
                out += bytes(room)
                continue
            piece = content[at : at + room - _HEADER.size]
            at += len(piece)
            kind = _KINDS[first, at == len(content)]
            out += _HEADER.pack(_mask(crc32c(bytes((kind,)) + piece)), len(piece), kind) + piece
            first = False
    return bytes(out)


def _is_longer_than_written(raw: bytes, at: int, check: int) -> bool:
    """Whether the record at `at` is all there, and only its length says otherwise."""
    crc = crc32c(raw[at + 6 : at + 7])
    for place in range(at + 7, len(raw) + 1):
        if _mask(crc) == check:
            return True
        crc = crc32c(raw[place : place + 1], crc)
    return False


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
