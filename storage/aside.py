"""Where damaged records go: out of everybody's way, under keys that begin with ff, and never deleted.

    ff crc32c(key, record) key   ->   why, upto, the record's bytes as found

`why` (UTF-8) and `upto` (empty: none) have their lengths before them, two bytes each.
The key is made of the contents, so that the same damage met twice is kept once. To look at what was set
aside, scan from `FIRST` to `END` and `read` each row.
"""

from __future__ import annotations

from crc32c import crc32c

from storage.keys import u16, u32
from storage.store import Damaged, Row

FIRST = b"\xff"
END = b"\xff" * 64
"""Behind every key that `place` makes."""
LONGEST_WHY = 1000
_KEY_AT = len(FIRST) + 4


def place(damaged: Damaged) -> Row:
    """Return the row that keeps `damaged`."""
    why, upto = damaged.why.encode()[:LONGEST_WHY], damaged.upto or b""
    key = FIRST + u32(crc32c(damaged.raw, crc32c(damaged.key))) + damaged.key
    return Row(key, u16(len(why)) + why + u16(len(upto)) + upto + damaged.raw)


def read(row: Row) -> Damaged:
    """Return what `place` was given."""
    why, rest = _cut(row.value)
    upto, raw = _cut(rest)
    return Damaged(row.key[_KEY_AT:], raw, why.decode(errors="replace"), upto or None)


def _cut(value: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(value[:2], "big")
    return value[2:end], value[end:]
