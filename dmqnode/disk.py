"""Performing a core's reads on a store; to be called in a worker thread."""

from __future__ import annotations

from storage.errors import Corrupt
from storage.store import Damaged, Store

from dmqnode.reads import Get, Read, Rows, Scan


def perform_read(store: Store, read: Read) -> Rows:
    """Return the rows that `read` asks for; damaged records are set aside and named.

    Errors: StorageError when the disk fails.
    """
    if isinstance(read, Get):
        return _get(store, read)
    return _scan(store, read)


def _get(store: Store, read: Get) -> Rows:
    rows: list[tuple[bytes, bytes]] = []
    damaged: list[bytes] = []
    for key in read.keys:
        try:
            value = store.get(key)
        except Corrupt:
            found = store.scan(key, key + b"\x00", limit=1)
            _set_aside(store, found.damaged, damaged)
            continue
        if value is not None:
            rows.append((key, value))
    return Rows(rows, damaged=damaged)


def _scan(store: Store, read: Scan) -> Rows:
    damaged: list[bytes] = []
    start = read.start
    if read.floor is not None:
        before = store.scan(read.floor, start + b"\x00", limit=1, reverse=True)
        _set_aside(store, before.damaged, damaged)
        if before.rows:
            start = before.rows[0].key
    found = store.scan(start, read.stop, limit=read.limit, max_bytes=read.max_bytes, reverse=read.reverse)
    _set_aside(store, found.damaged, damaged)
    return Rows([(row.key, row.value) for row in found.rows], found.more, damaged)


def _set_aside(store: Store, found: list[Damaged], damaged: list[bytes]) -> None:
    for record in found:
        store.set_aside(record)
        damaged.append(record.key)
