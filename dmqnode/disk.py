"""Performing a core's reads on a store; to be called in a worker thread."""

from __future__ import annotations

from dmqnode.keys import PartitionKeys, harm_key
from dmqnode.pending import Pending
from dmqnode.reads import Get, Read, Rows, Scan
from dmqnode.records import decode_state
from dmqnode.space import Measured, Span
from storage.errors import Corrupt, DiskFull
from storage.ops import WriteBatch
from storage.store import Damaged, Row, Store


def perform_read(store: Store, read: Read) -> Rows:
    """Return the rows that `read` asks for; damaged records are set aside and named.

    A scan that a limit ended has at least one row, so that whoever goes on behind its last row gets on.

    Errors: StorageError when the disk fails.
    """
    if isinstance(read, Get):
        return _get(store, read)
    return _scan(store, read)


def look(store: Store, pending: Pending) -> None:
    """Read what must be seen right behind a write group.  Errors: StorageError when the disk fails."""
    for wanted in pending.looks:
        wanted.found = read_ranges(store, wanted.ranges)


def read_ranges(store: Store, ranges: tuple[tuple[bytes, bytes], ...]) -> dict[bytes, bytes]:
    """Return all rows of some ranges; damaged ones are set aside and left out, but for the note of that.

    For what is small by its nature: there is no limit.  Errors: StorageError when the disk fails.
    """
    rows: dict[bytes, bytes] = {}
    for start, stop in ranges:
        while True:
            page = perform_read(store, Scan(start, stop, 4096))
            rows.update(page.rows)
            rows.update({mark: b"" for key in page.damaged if (mark := harm_key(key)) is not None})
            if not page.more:
                break
            start = page.rows[-1][0] + b"\x00"
    return rows


def measure(store: Store, spans: list[Span]) -> list[Measured]:
    """Measure ranges of keys.  Errors: StorageError when the disk fails."""
    found: list[Measured] = []
    for start, stop, copy in spans:
        size = store.size(start, stop)
        found.append(Measured(start, stop, size, _live(store, start, size) if copy and size else 0))
    return found


def _live(store: Store, prefix: bytes, size: int) -> int:
    """Return how many bytes the batches of a copy are long, as its state says; all, if that is damaged."""
    try:
        record = store.get(PartitionKeys(prefix).state())
    except Corrupt:
        return size  # whoever compacts must read everything, and a store that cannot is lost
    return 0 if record is None else decode_state(record).bytes


def _get(store: Store, read: Get) -> Rows:
    rows: list[tuple[bytes, bytes]] = []
    damaged: list[bytes] = []
    for key in read.keys:
        try:
            value = store.get(key)
        except Corrupt as corrupt:
            # The scan says what is wrong with it: the record, or the place where it should be.
            found = store.scan(key, key + b"\x00", limit=1)
            _set_aside(store, found.damaged or [Damaged(key, b"", corrupt.why)], damaged)
            continue
        if value is not None:
            rows.append((key, value))
    return Rows(rows, damaged=damaged)


def _scan(store: Store, read: Scan) -> Rows:
    damaged: list[bytes] = []
    start, stop = read.start, read.stop
    if read.floor is not None:
        before = store.scan(read.floor, start + b"\x00", limit=1, reverse=True)
        _set_aside(store, before.damaged, damaged)
        if before.rows:
            start = before.rows[0].key
    rows: list[Row] = []
    more = True
    while more and not rows:
        found = store.scan(start, stop, limit=read.limit, max_bytes=read.max_bytes, reverse=read.reverse)
        if read.leave:
            damaged += [record.key for record in found.damaged]
        else:
            _set_aside(store, found.damaged, damaged)
        rows, more = found.rows, found.more
        if found.damaged and read.reverse:
            stop = min(record.key for record in found.damaged)
        elif found.damaged:
            start = max(record.key for record in found.damaged) + b"\x00"
    return Rows([(row.key, row.value) for row in rows], more, damaged)


def _set_aside(store: Store, found: list[Damaged], damaged: list[bytes]) -> None:
    for record in found:
        damaged.append(record.key)
        if (mark := harm_key(record.key)) is not None:
            # What is not there any more nobody notices, and a copy must not seem to know what it lost.
            noted = WriteBatch()
            noted.put(mark, b"")
            try:
                store.write(noted, sync=True)
            except DiskFull:
                continue  # it stays where it is, and is met again
        store.set_aside(record)
