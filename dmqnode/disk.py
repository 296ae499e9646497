"""Performing a core's reads on a store; to be called in a worker thread."""

from __future__ import annotations

from dmqnode.ids import PARTITION_ID_SIZE, PartitionId
from dmqnode.keys import COPIES, COPIES_END, DEBTS, DEBTS_END, PartitionKeys, harm_key
from dmqnode.pending import Pending
from dmqnode.reads import Get, Read, Rows, Scan
from dmqnode.records import decode_state
from dmqnode.space import Stretch
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


def survey(store: Store, position: bytes, count: int) -> tuple[list[Stretch], bytes]:
    """Measure the ranges of up to `count` copies of partitions, and what is between them.

    Arguments:
        position: where to go on; empty: at the first, behind the debts.

    Returns them, and where to go on; empty: that were all.  Errors: StorageError when the disk fails.
    """
    found: list[Stretch] = []
    if not position:
        position = COPIES
        if not _first(store, DEBTS, DEBTS_END):
            found.append(Stretch(DEBTS, DEBTS_END, store.size(DEBTS, DEBTS_END), 0))
    for _ in range(count):
        key = _first(store, position, COPIES_END)
        start = PartitionKeys.of(PartitionId(key[1 : 1 + PARTITION_ID_SIZE])).prefix if key else COPIES_END
        if position < start:
            found.append(Stretch(position, start, store.size(position, start), 0))
        if not key:
            return found, b""
        position = start + b"\xff"
        found.append(Stretch(start, position, store.size(start, position), _live(store, start)))
    return found, position


def _first(store: Store, start: bytes, stop: bytes) -> bytes:
    """Return the first key of a range, damaged or not; empty if there is none."""
    page = store.scan(start, stop, limit=1)
    return min([row.key for row in page.rows] + [record.key for record in page.damaged], default=b"")


def _live(store: Store, prefix: bytes) -> int:
    """Return how many bytes the batches of a copy are long, as its state says."""
    try:
        record = store.get(PartitionKeys(prefix).state())
    except Corrupt:
        return 0
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
