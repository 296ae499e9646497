"""What a power cut leaves of a log that was being written: a part of the bytes of some write, perhaps.

    synced ──> not synced: write, write, wri|te      or, with the length already set:      wri|0000
                                            └ cut                                             └ cut

The bytes are laid out as LevelDB does it, and read by the product's own reader of such logs: whatever a write
lacks of its bytes, it is wholly there or not at all, and so are those behind it.
"""

from __future__ import annotations

import random

from crc32c import crc32c

from storage.keys import u32
from storage.logfile import _HEADER, BLOCK, State, _mask, contents, inspect
from storage.memory import MemoryStore

WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def tear(store: MemoryStore, rng: random.Random) -> MemoryStore:
    """Cut the power while unsynced writes go to the disk; return the store that has what survived."""
    writes = _unsynced(store)
    raw, ends = b"", [0]
    for write in writes:
        raw += _framed(write, len(raw))
        ends.append(len(raw))
    # Mostly in the middle of the last one.
    begin = rng.choice((0, ends[-2], ends[-2])) if writes else 0
    cut = rng.randint(begin, len(raw))
    left = raw[:cut] + (bytes(len(raw) - cut) if rng.random() < 0.3 else b"")
    kept = sum(1 for _ in contents(left))
    if inspect(left).state is State.DAMAGED and not left.endswith(b"\x00"):
        raise AssertionError("a log that was cut short is taken for damaged")
    while len(store._undo) > kept:
        for key, value in store._undo.pop().items():
            store._replace(key, value)
    store._undo.clear()
    return store.reopen()


def _unsynced(store: MemoryStore) -> list[bytes]:
    """Return the bytes of each write that was not synced, the oldest first."""
    writes: list[bytes] = []
    later: dict[bytes, bytes | None] = {}
    for undo in reversed(store._undo):
        rows = [(key, later[key] if key in later else store._records.get(key)) for key in undo]
        writes.append(
            b"".join(u32(len(key)) + key + u32(len(raw or b"")) + (raw or b"") for key, raw in rows)
        )
        later.update(undo)
    return writes[::-1]


def _framed(write: bytes, at: int) -> bytes:
    """Return a write as it stands in a log from `at` on."""
    framed, begun = b"", False
    while True:
        room = BLOCK - (at + len(framed)) % BLOCK
        if room < _HEADER.size:
            framed += bytes(room)
            continue
        piece, write = write[: room - _HEADER.size], write[room - _HEADER.size :]
        kind = (MIDDLE if begun else FIRST) if write else (LAST if begun else WHOLE)
        check = _mask(crc32c(bytes((kind,)) + piece))
        framed += _HEADER.pack(check, len(piece), kind) + piece
        begun = True
        if not write:
            return framed
