"""Looking at messages without taking them: peek, export, the oldest message's age."""

from __future__ import annotations

import struct
from typing import NamedTuple

from dmqnode.batch import Batch
from dmqnode.errors import InvalidRequest
from dmqnode.ids import LOG_ID_SIZE, LogId
from dmqnode.log import Log
from dmqnode.messages import Part
from dmqnode.partition import Partition
from dmqnode.reads import Procedure, Scan
from dmqnode.records import Unreadable, decode_batch, decode_due

STATES = ("ready", "delayed", "in-flight")
JUMP = 4096
_CURSOR = struct.Struct(">cQ20sQ")


class Cursor(NamedTuple):
    """Where to go on.

    `kind`: r: in the logs, and `at` is when that log was opened; h: in what is held; u: in what is not due
    yet, and `at` is when that is due.
    """

    kind: bytes = b""
    at: int = 0
    log: bytes = bytes(LOG_ID_SIZE)
    seq: int = 0


START = Cursor()
Found = tuple[list[Part], Cursor | None]


def encode_cursor(cursor: Cursor) -> bytes:
    """Return a cursor as bytes."""
    return _CURSOR.pack(*cursor)


def decode_cursor(data: bytes) -> Cursor:
    """Read what `encode_cursor` wrote; nothing gives the start.

    Errors: InvalidRequest.
    """
    if not data:
        return START
    try:
        return Cursor(*_CURSOR.unpack(data))
    except struct.error:
        raise InvalidRequest("the cursor is not one that this node gave; begin again without one") from None


class _Stored(NamedTuple):
    log: Log
    first: int
    sent_at: int
    due: int
    batch: Batch


class _Page:
    """What is found, within the limits; one message is taken however long it is."""

    def __init__(self, partition: Partition, limit: int, room: int) -> None:
        self.parts: list[Part] = []
        self._partition = partition
        self._limit = limit
        self._room = room

    def add(self, where: _Stored, low: int, high: int, attempt: int = 0, delivery: int = 0) -> int:
        """Add messages low … high - 1 of a batch; return how far the limits allowed."""
        log, first, sent_at, _, batch = where
        if self.parts and (self._limit <= 0 or batch.weight(low - first) > self._room):
            return low
        most = min(high, low + max(1, self._limit)) - first
        top = batch.fits(low - first, most, max(1, self._room))
        blob = batch.part(low - first, top).blob
        count = top - (low - first)
        self.parts.append(Part(self._partition.id, delivery, log.id, low, count, attempt, sent_at, blob))
        self._limit -= count
        self._room -= len(blob)
        return first + top


def browse(
    partition: Partition, wall: int, state: str, limit: int, max_bytes: int, cursor: Cursor
) -> Procedure[Found]:
    """Return parts of up to `limit` messages in `state`, and where to go on, None at the end.

    Messages that come or go meanwhile may or may not be seen.
    """
    page = _Page(partition, limit, max_bytes)
    if state == "ready":
        after = yield from _ready(partition, wall, page, cursor)
    elif cursor.kind == b"u":
        after = yield from _undue(partition, page, cursor)
    else:
        after = yield from _held(partition, state, page, cursor)
        if after is None and state == "delayed":
            due = max(partition.state.due_low, wall)
            after = yield from _undue(partition, page, Cursor(b"u", due))
    return page.parts, after


def _read(log: Log, key: bytes, record: bytes, partition: Partition) -> _Stored | None:
    try:
        sent_at, due, batch = decode_batch(record)
    except Unreadable:
        return None
    return _Stored(log, partition.keys.first_seq(key), sent_at, due, batch)


# --- in flight and delayed ---------------------------------------------------------------------------


def _held(partition: Partition, state: str, page: _Page, after: Cursor) -> Procedure[Cursor | None]:
    """What consumers have, or what was nacked and waits, by where it lies."""
    keys = partition.keys
    found = [
        (s.stored.log.id, s.low, s.high, s.attempt, hold.delivery)
        for hold in partition.holds
        if bool(hold.delivery) == (state == "in-flight")
        for s in hold.segments
        if (s.stored.log.id, s.high) > (after.log, after.seq)
    ]
    for id_, low, high, attempt, delivery in sorted(found):
        if id_ == after.log:
            low = max(low, after.seq)
        log = partition.logs.get(id_)
        if log is None or log.dead.ranges.covers(low, high):
            continue  # settled meanwhile
        scan = Scan(keys.batch(id_, low), keys.batch(id_, low + 1), 1, floor=keys.batch(id_, 0))
        for key, record in (yield scan).rows:
            stored = _read(log, key, record, partition)
            if stored is None or stored.first + stored.batch.count <= low:
                continue  # damaged, or not held here so far
            for a, b in log.dead.ranges.gaps(low, high):
                if (top := page.add(stored, a, b, attempt, delivery)) < b:
                    return Cursor(b"h", 0, id_, top)
    return None


def _undue(partition: Partition, page: _Page, after: Cursor) -> Procedure[Cursor | None]:
    """What is not due yet, soonest first."""
    keys = partition.keys
    start, stop = keys.due(after.at, LogId(after.log), 0), keys.due_range(0)[1]
    more = True
    while more:
        index = yield Scan(start, stop, 256, leave=True)
        for entry, value in index.rows:
            start = entry + b"\x00"
            due, id_, first = keys.read_due(entry)
            end = first + decode_due(value)[0]
            low = max(first, after.seq) if (due, id_) == (after.at, after.log) else first
            log = partition.logs.get(id_)
            if log is None or low >= end or not log.open_pieces(low, end):
                continue
            for key, record in (yield Scan(keys.batch(id_, first), keys.batch(id_, first + 1), 1)).rows:
                stored = _read(log, key, record, partition)
                if stored is None:
                    continue
                for a, b in log.open_pieces(low, end):
                    if (top := page.add(stored, a, b)) < b:
                        return Cursor(b"u", due, id_, top)
        more = index.more
    return None


# --- ready -------------------------------------------------------------------------------------------


def _ready(partition: Partition, wall: int, page: _Page, after: Cursor) -> Procedure[Cursor | None]:
    """Walk the logs in the order of delivery, over what is neither dead nor out."""
    keys = partition.keys
    again = _waiting_again(partition)
    for log in list(partition.logs.values()):
        place = (log.opened_at, log.id)
        if place < (after.at, after.log):
            continue
        at = after.seq if place == (after.at, after.log) else 0
        while (at := log.dead.ranges.first_gap(at)) < log.durable:
            jump = log.dead.ranges.next_range(at, longer_than=JUMP)
            end = min(log.durable, jump[0] if jump else log.durable)
            rows = yield Scan(
                keys.batch(log.id, at), keys.batch(log.id, end), 256, floor=keys.batch(log.id, 0)
            )
            for key, record in rows.rows:
                stored = _read(log, key, record, partition)
                if stored is None:
                    at = max(at, keys.first_seq(key) + 1)
                    continue
                last = stored.first + stored.batch.count
                for low, high, attempt in _visible(log, max(at, stored.first), last, stored.due, wall, again):
                    if (top := page.add(stored, low, high, attempt)) < high:
                        return Cursor(b"r", log.opened_at, log.id, top)
                at = max(at, last)
            if not rows.more:
                at = max(at, end)
    return None


Again = dict[LogId, list[tuple[int, int, int]]]
"""Per log (low, high, attempts so far) of what waits for its next delivery."""


def _waiting_again(partition: Partition) -> Again:
    again: Again = {}
    for s in partition.ready.waiting_again():
        again.setdefault(s.stored.log.id, []).append((s.low, s.high, s.attempt))
    return again


def _visible(log: Log, low: int, high: int, due: int, wall: int, again: Again) -> list[tuple[int, int, int]]:
    """Return the ready pieces of a batch, (low, high, attempts); what comes again is taken, and yet ready."""
    if due > wall:
        return []
    pieces = [(a, b, 0) for a, b in log.open_pieces(low, high)]
    for a, b, attempt in again.get(log.id, ()):
        if a < high and low < b:
            pieces.append((max(a, low), min(b, high), attempt))
    return sorted(pieces)
