"""Looking at messages without taking them: peek, export, the oldest message's age."""

from __future__ import annotations

from collections.abc import Iterator

import cbor2

from dmqnode.batch import Batch
from dmqnode.ids import LogId
from dmqnode.log import Log
from dmqnode.messages import Part
from dmqnode.partition import Partition
from dmqnode.reads import Procedure, Scan
from dmqnode.records import Unreadable, decode_batch

STATES = ("ready", "delayed", "in-flight")
Piece = tuple[Log, int, int, int, int]
"""(log, low, high, attempt, delivery)."""


def browse(
    partition: Partition, wall: int, state: str, limit: int, max_bytes: int, cursor: bytes | None
) -> Procedure[tuple[list[Part], bytes | None]]:
    """Return parts of up to `limit` messages in `state`, and where to go on, None at the end.

    Messages that come or go meanwhile may or may not be seen.
    """
    after = cbor2.loads(cursor) if cursor is not None else [0, 0]
    if state == "ready":
        return (yield from _browse_ready(partition, wall, limit, max_bytes, after))
    return (yield from _browse_held(partition, wall, state, limit, max_bytes, after))


# --- in flight and delayed ---------------------------------------------------------------------------


def _held(partition: Partition, state: str) -> Iterator[Piece]:
    for hold in partition.holds:
        if bool(hold.delivery) == (state == "in-flight"):
            for s in hold.segments:
                yield s.stored.log, s.low, s.high, s.attempt, hold.delivery


def _browse_held(
    partition: Partition, wall: int, state: str, limit: int, max_bytes: int, after: list[int]
) -> Procedure[tuple[list[Part], bytes | None]]:
    skip = after[1]
    parts: list[Part] = []
    seen = 0
    pieces = list(_held(partition, state))
    for n, (log, low, high, attempt, delivery) in enumerate(pieces):
        if n < skip:
            continue
        if seen >= limit or max_bytes <= 0:
            return parts, cbor2.dumps([0, n])
        got, size = yield from _read(partition, log, low, min(high, low + limit - seen), attempt, delivery)
        parts += got
        seen += sum(p.count for p in got)
        max_bytes -= size
    if state == "delayed":
        more = yield from _browse_undue(partition, wall, limit - seen, max_bytes)
        parts += more
    return parts, None


def _browse_undue(partition: Partition, wall: int, limit: int, max_bytes: int) -> Procedure[list[Part]]:
    """Return messages whose time has not come, soonest first; as many as one page of the index tells of."""
    parts: list[Part] = []
    if limit <= 0:
        return parts
    page = yield Scan(*partition.keys.due_range(max(partition.state.due_low, wall)), min(limit, 1024))
    for key, _ in page.rows:
        _, log_id, first = partition.keys.read_due(key)
        log = partition.logs.get(log_id)
        if log is None or limit <= 0 or max_bytes <= 0:
            continue
        got, size = yield from _read(partition, log, first, None, 0, 0)
        for part in got:
            parts.append(part)
            limit -= part.count
        max_bytes -= size
    return parts


def _read(
    partition: Partition, log: Log, low: int, high: int | None, attempt: int, delivery: int
) -> Procedure[tuple[list[Part], int]]:
    """Read messages low … high - 1 of a log (None: to the end of their batch), what is not dead of them."""
    keys = partition.keys
    stop = low + 1 if high is None else high
    page = yield Scan(keys.batch(log.id, low), keys.batch(log.id, stop), 256, floor=keys.batch(log.id, 0))
    parts: list[Part] = []
    size = 0
    for key, record in page.rows:
        first = keys.first_seq(key)
        try:
            sent_at, _, batch = decode_batch(record)
        except Unreadable:
            continue
        top = first + batch.count if high is None else min(high, first + batch.count)
        pieces = log.open_pieces if high is None else log.dead.ranges.gaps
        for a, b in pieces(max(low, first), max(low, top)):
            parts.append(_part(partition, log, first, a, b, attempt, delivery, sent_at, batch))
            size += batch.span(a - first, b - first)
    return parts, size


def _part(
    partition: Partition,
    log: Log,
    first: int,
    low: int,
    high: int,
    attempt: int,
    delivery: int,
    sent_at: int,
    batch: Batch,
) -> Part:
    blob = batch.part(low - first, high - first).blob
    return Part(partition.id, delivery, log.id, low, high - low, attempt, sent_at, blob)


# --- ready -------------------------------------------------------------------------------------------


def _browse_ready(
    partition: Partition, wall: int, limit: int, max_bytes: int, after: list[int]
) -> Procedure[tuple[list[Part], bytes | None]]:
    """Walk the logs in the order of delivery, over what is neither dead nor out."""
    keys = partition.keys
    number, at = after
    again = _waiting_again(partition)
    logs = list(partition.logs.values())
    parts: list[Part] = []
    while number < len(logs):
        log = logs[number]
        at = max(at, log.dead.ranges.first_gap(at))
        if at >= log.durable:
            number, at = number + 1, 0
            continue
        jump = log.dead.ranges.next_range(at, longer_than=4096)
        end = min(log.durable, jump[0] if jump else log.durable)
        page = yield Scan(keys.batch(log.id, at), keys.batch(log.id, end), 256, floor=keys.batch(log.id, 0))
        for key, record in page.rows:
            first = keys.first_seq(key)
            try:
                sent_at, due, batch = decode_batch(record)
            except Unreadable:
                continue
            for low, high, attempt in _visible(log, max(at, first), first + batch.count, due, wall, again):
                top = (
                    batch.fits(low - first, min(high - first, low - first + limit), max(1, max_bytes)) + first
                )
                parts.append(_part(partition, log, first, low, top, attempt, 0, sent_at, batch))
                limit -= top - low
                max_bytes -= batch.span(low - first, top - first)
                at = top
                if limit <= 0 or max_bytes <= 0:
                    return parts, cbor2.dumps([number, at])
            at = max(at, first + batch.count)
        if not page.more:
            at = max(at, end)
    return parts, None


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
