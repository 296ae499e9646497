"""A store with many small files, and what may be said of it once its files are damaged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from storage import aside
from storage.errors import Corrupt
from storage.leveldb import LevelStore
from storage.store import Damaged, Row
from tests.storage.writing import batch

FIRST, STOP = b"a", b"z"
SMALL = {"write_buffer_size": 64 << 10, "max_file_size": 64 << 10}
"""LevelDB's settings for these tests: tables soon, and several levels of them."""


def fill(directory: Path, *, writes: int = 400) -> dict[bytes, bytes]:
    """Write, replace and delete rows in a new store, close it, and return what is in it."""
    rng = random.Random(1)
    wanted: dict[bytes, bytes] = {}
    store = LevelStore.open(directory)
    for _ in range(writes):
        puts = {b"k%04d" % rng.randrange(1500): rng.randbytes(rng.randrange(400)) for _ in range(4)}
        gone = b"k%04d" % rng.randrange(1500)
        store.write(batch(puts, gone), sync=False)
        wanted.update(puts)
        wanted.pop(gone, None)
    store.close()
    return wanted


def pages(store: LevelStore, start: bytes = FIRST, stop: bytes = STOP) -> tuple[list[Row], list[Damaged]]:
    """Scan the range page by page, as a reader with a cursor does."""
    rows: list[Row] = []
    damaged: list[Damaged] = []
    position, more = start, True
    while more:
        page = store.scan(position, stop, limit=50)
        rows += page.rows
        damaged += page.damaged
        position = max([row.key for row in page.rows] + [d.key for d in page.damaged], default=stop) + b"\x00"
        more = page.more
    return rows, damaged


def noted(store: LevelStore) -> list[Damaged]:
    """Return what was set aside."""
    return [aside.read(row) for row in store.scan(aside.FIRST, aside.END, limit=10_000).rows]


def names(damaged: list[Damaged], key: bytes) -> bool:
    """Whether `key` is among what is said to be damaged."""
    return any(key == d.key if d.upto is None else d.key <= key < d.upto for d in damaged)


def check_honest(store: LevelStore, wanted: dict[bytes, bytes]) -> None:
    """Assert that whatever is not as it was written is named, by scans in both directions and by lookups."""
    known = noted(store)
    for rows, damaged in _scans(store):
        assert dict(rows).items() <= wanted.items(), "a wrong, stale or deleted row came up"
        assert [row.key for row in rows] == sorted({row.key for row in rows})
        for key in wanted.keys() - dict(rows).keys():
            assert names(known + damaged, key), f"{key!r} is missing and nobody says so"
    for key, value in wanted.items():
        try:
            found = store.get(key)
        except Corrupt:
            continue
        assert found == value or (found is None and names(known, key))


def _scans(store: LevelStore) -> Iterator[tuple[list[Row], list[Damaged]]]:
    yield pages(store)
    down = store.scan(FIRST, STOP, limit=1 << 20, max_bytes=1 << 30, reverse=True)
    yield down.rows[::-1], down.damaged


def flip_a_bit(path: Path, rng: random.Random) -> None:
    """Change one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)
