"""Pieces of keys whose order as bytes is the order of what they stand for.

Numbers are unsigned and big-endian, so that `u32(9) < u32(10)` holds for the bytes too; keys made of pieces
of the same widths, in the same places, sort like tuples. A piece of variable length belongs at the end.

    prefix ──┬── prefix            all keys that begin with `prefix` are the range
             ├── prefix 00 …         prefix <= key < prefix_end(prefix)
             └── prefix ff …
"""

from __future__ import annotations

import struct

_U8 = struct.Struct(">B")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


def u8(number: int) -> bytes:
    """One byte. Errors: struct.error outside 0..2^8-1."""
    return _U8.pack(number)


def u16(number: int) -> bytes:
    """Two bytes. Errors: struct.error outside 0..2^16-1."""
    return _U16.pack(number)


def u32(number: int) -> bytes:
    """Four bytes. Errors: struct.error outside 0..2^32-1."""
    return _U32.pack(number)


def u64(number: int) -> bytes:
    """Eight bytes. Errors: struct.error outside 0..2^64-1."""
    return _U64.pack(number)


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key that is greater than every key beginning with `prefix`.

    Errors: ValueError when there is none: `prefix` is empty, or ff throughout.
    """
    kept = prefix.rstrip(b"\xff")
    if not kept:
        raise ValueError(f"no key is greater than all keys that begin with {prefix!r}")
    return kept[:-1] + bytes((kept[-1] + 1,))
