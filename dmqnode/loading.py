"""Bringing a partition back from disk.

Described in four small ranges, all read from their low marks; the backlog itself is not touched, so
that opening costs the same for ten messages and for ten million.
"""

from __future__ import annotations

from dmqnode.clock import Now
from dmqnode.errors import ProtocolError
from dmqnode.ids import LOG_ID_SIZE, LogId, QueueId
from dmqnode.keys import ASIDE, ASIDE_END, HARM, QUEUES, QUEUES_END, PartitionKeys, aside_queue
from dmqnode.log import Log, Segment, StoredBatch
from dmqnode.partition import Partition
from dmqnode.reads import Procedure, Rows, Scan
from dmqnode.records import (
    Note,
    Unreadable,
    decode_batch,
    decode_log,
    decode_note,
    decode_state,
    encode_log,
    read_batch_head,
)
from storage.ops import WriteBatch

PAGE = 2048


def load(
    partition: Partition, now: Now, damaged: list[bytes], *, alone: bool = False
) -> Procedure[WriteBatch]:
    """Fill a new Partition from disk; return what is to be written in turn: logs now closed.

    Arguments:
        damaged: gets the keys of records that cannot be read; they are made up for as far as possible.
        alone: whether there are no other copies: what was made up for is not missed any more.
    """
    keys = partition.keys
    notes: dict[int, Note] = {}
    dead: list[tuple[LogId, int, bytes]] = []
    described = yield from _pages(*keys.described(), damaged)
    state = False
    for key, record in described:
        letter, rest = keys.tail(key)
        if letter == b"d":
            log_id, number = LogId(rest[:LOG_ID_SIZE]), int.from_bytes(rest[LOG_ID_SIZE:], "big")
            dead.append((log_id, number, record))
        elif letter == b"l":
            opened_at, delayed, end = decode_log(record)
            if end is None:
                partition.logs[LogId(rest)] = Log(LogId(rest), opened_at, delayed=delayed)
            else:
                partition.closed[LogId(rest)] = end
        elif letter == b"n":
            notes[int.from_bytes(rest, "big")] = decode_note(record)
        elif letter == b"s":
            partition.state = decode_state(record)
            state = True
    yield from _mend_logs(partition)
    for log_id, number, record in dead:
        if log_id in partition.logs:
            partition.logs[log_id].dead.load(number, record)
    for log in partition.logs.values():
        if state and log.id in partition.state.ends:
            log.end = log.durable = partition.state.ends[log.id]
        else:
            yield from _find_end(keys, log)
        log.cursor, log.aligned = log.dead.ranges.first_gap(0), False
    ordered = sorted(partition.logs.values(), key=lambda g: (g.opened_at, g.id))
    partition.logs.clear()
    partition.logs.update((log.id, log) for log in ordered)
    _restore_notes(partition, now, notes)
    partition.appends.go_on()
    closing = _close_empty(partition)
    for id_ in partition.mended:
        if (mended := partition.logs.get(id_)) is not None:
            closing.put(keys.log(id_), encode_log(mended.opened_at, delayed=mended.delayed))
    yield from _load_sent(partition, now, damaged)
    yield from _load_due(partition)
    if alone:
        marks = yield Scan(keys.prefix + HARM, keys.prefix + HARM + b"\xff", PAGE)
        for mark, _ in marks.rows:
            closing.delete(mark)
    return closing


def _mend_logs(partition: Partition) -> Procedure[None]:
    """Make up for log records that were damaged: the state names the logs, their batches tell the rest."""
    for id_ in partition.state.ends:
        if id_ in partition.logs or id_ in partition.closed:
            continue
        page = yield Scan(partition.keys.batch(id_, 0), partition.keys.fence(id_), 1)
        for _, record in page.rows:
            try:
                sent_at, due, _ = decode_batch(record)
            except Unreadable:
                continue
            partition.logs[id_] = Log(id_, sent_at, delayed=due > 0)
            partition.mended.append(id_)


def _pages(start: bytes, stop: bytes, damaged: list[bytes]) -> Procedure[list[tuple[bytes, bytes]]]:
    """Read a whole range."""
    out: list[tuple[bytes, bytes]] = []
    while True:
        page = yield Scan(start, stop, PAGE)
        out += page.rows
        damaged += page.damaged
        if not page.more:
            return out
        if page.rows:
            start = page.rows[-1][0] + b"\x00"


def _find_end(keys: PartitionKeys, log: Log) -> Procedure[None]:
    """Without the state record (damaged): the end is behind the last batch, or the last dead message."""
    page = yield Scan(keys.batch(log.id, 0), keys.fence(log.id), 1, reverse=True)
    end = log.dead.ranges.end
    for key, record in page.rows:
        try:
            end = max(end, keys.first_seq(key) + decode_batch(record)[2].count)
        except Unreadable:
            end = max(end, keys.first_seq(key) + 1)
    log.end = log.durable = end


def _restore_notes(partition: Partition, now: Now, notes: dict[int, Note]) -> None:
    """Take up the deliveries of the last run; of two notes on one message the later holds (N1)."""
    batches: dict[tuple[LogId, int], StoredBatch] = {}
    used: dict[int, int] = {}
    for slot, note in sorted(notes.items(), key=lambda item: -item[1].counter):
        segments: list[Segment] = []
        for s in note.segments:
            log = partition.logs.get(s.log)
            if log is None:
                continue
            stored = batches.setdefault(
                (s.log, s.first),
                StoredBatch(log, s.first, s.messages, size=s.size, sent_at=s.sent_at, due=s.due, batch=None),
            )
            for low, high in log.open_pieces(s.low, min(s.high, log.durable)):
                log.taken.add(low, high)
                segments.append(Segment(stored, low, high, s.attempt, s.group))
                if s.group is not None:
                    partition.ready.groups.occupy(s.group)
        used[slot] = sum(map(len, segments))
        if segments:
            partition.holds.restore(now, note, slot, segments)
            if note.given_up:
                partition.exhaust(segments, note.holder, note.to)
    for stored in batches.values():
        if stored.due:
            partition.came_due.add(
                stored
            )  # should its note be damaged, the index still says that it is there
    partition.holds.adopt_slots(used, max((n.counter for n in notes.values()), default=0))


def _close_empty(partition: Partition) -> WriteBatch:
    """Fold the logs that nobody appends to and of which nothing lives to their ends (rule C4)."""
    ops = WriteBatch()
    for log in list(partition.logs.values()):
        if partition.appends.goes_on(log):
            continue
        if log.dead.ranges.covers(0, log.durable) and not any(p[0] == log.id for p in partition.state.purges):
            ops.put(partition.keys.log(log.id), encode_log(log.opened_at, delayed=log.delayed, end=log.end))
            ops.delete(partition.keys.fence(log.id))
            log.dead.forget(partition.keys, log.id, ops)
            partition.closed[log.id] = log.end
            del partition.logs[log.id]
    return ops


def _load_sent(partition: Partition, now: Now, damaged: list[bytes]) -> Procedure[None]:
    """Read what was sent in the last minutes, or before, if somebody was away then."""
    partition.dedup.low = partition.state.sent_low
    start, stop = partition.keys.sent_range(partition.state.sent_low)
    rows = yield from _pages(start, stop, damaged)
    for key, record in rows:
        minute, name = partition.keys.read_sent(key)
        partition.dedup.load(minute, name, record)
    # Whether somebody is away whom it is kept for will only turn out.
    partition.dedup.sweep(now.wall // 60_000, awaited=True)


def _load_due(partition: Partition) -> Procedure[None]:
    """Say what is delayed; when each is due is read as time comes near."""
    for log in partition.logs.values():
        if log.delayed:
            partition.undue += log.live - log.taken.size
    if partition.settings.ordering == "fifo" and any(g.delayed and g.live for g in partition.logs.values()):
        start, stop = partition.keys.due_range(partition.state.due_low)
        page = yield Scan(start, stop, 1, reverse=True, leave=True)
        # The key alone says it, so that a damaged entry, which is made up for when it is due, counts, too.
        found = [key for key, _ in page.rows] + [key for key in page.damaged if partition.keys.is_due(key)]
        partition.appends.last_due = max((partition.keys.read_due(key)[0] for key in found), default=0)
    if partition.undue:
        partition.due.whole = False
        partition.due.horizon = (partition.state.due_low, LogId(bytes(LOG_ID_SIZE)), 0)


def purge_page(partition: Partition) -> Procedure[None]:
    """Delete one page of the batches that a purge left dead; `state.purges` is empty once all are deleted."""
    keys = partition.keys
    log, low, high = purge = partition.state.purges[0]
    began = low
    # The first may begin before; behind a page that was deleted nobody may seek backwards.
    floor = None if partition.purged == (log, low) else keys.batch(log, 0)
    page = yield Scan(keys.batch(log, low), keys.batch(log, high), 512, floor=floor)
    known = partition.logs.get(log)
    for key, record in page.rows:
        (due, count), first = _head(record), keys.first_seq(key)
        low = first + 1
        if known is not None and not known.dead.ranges.covers(first, first + count):
            continue
        partition.freed(len(record), key)
        if due:
            partition.freed(0, keys.due(due, log, first))
    # What was damaged here, now or before, is not here any more, and other homes have it.
    end = low if page.more else high
    dying = [(began, end)] if known is None else known.dead.ranges.within(began, end)
    for first, beyond in dying if partition.replicated else ():
        partition.elsewhere.void(log, first, beyond)  # what lives was purged by a leader that nobody followed
    partition.purged = (log, low)
    rest = [p for p in partition.state.purges if p != purge]
    partition.state.purges = [(log, low, high), *rest] if page.more else rest
    partition.touch()


def _head(record: bytes) -> tuple[int, int]:
    """Return when a batch is due, and of how many messages it is."""
    try:
        return read_batch_head(record)
    except ProtocolError:
        return 0, 1


def read_definitions() -> Procedure[tuple[list[tuple[bytes, bytes]], set[QueueId]]]:
    """Return the records of all queues, and of which queues they are damaged."""
    rows: list[tuple[bytes, bytes]] = []
    page, start = Rows([], more=True), QUEUES
    while page.more:
        page = yield Scan(start, QUEUES_END, 4096)
        rows += page.rows
        start = page.rows[-1][0] + b"\x00" if page.rows else start
    # What is damaged has just been set aside, or was at an earlier start.
    unreadable: set[QueueId] = set()
    page, start = Rows([], more=True), ASIDE
    while page.more:
        page = yield Scan(start, ASIDE_END, 4096)
        unreadable |= {id_ for key, _ in page.rows if (id_ := aside_queue(key)) is not None}
        start = page.rows[-1][0] + b"\x00" if page.rows else start
    return rows, unreadable
