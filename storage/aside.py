"""Where damaged records go: out of everybody's way, under keys that begin with ff, and never deleted.

    ff crc32c(key, record) key   ->   length of why (u16), why (UTF-8), the record's bytes as found

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
_KEY_AT = len(FIRST) + 4


def place(damaged: Damaged) -> Row:
    """Return the row that keeps `damaged`."""
    why = damaged.why.encode()[:1000]
    key = FIRST + u32(crc32c(damaged.raw, crc32c(damaged.key))) + damaged.key
    return Row(key, u16(len(why)) + why + damaged.raw)


def read(row: Row) -> Damaged:
    """Return what `place` was given."""
    end = 2 + int.from_bytes(row.value[:2], "big")
    return Damaged(row.key[_KEY_AT:], row.value[end:], row.value[2:end].decode(errors="replace"))
