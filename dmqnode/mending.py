"""A led partition learns from other homes what its own copy lacks: ends, dead sets, batches."""

from __future__ import annotations

from collections.abc import Iterator

from dmqnode.clock import Now
from dmqnode.dedup import Runs
from dmqnode.duetimes import DueBatch
from dmqnode.ids import LogId
from dmqnode.log import Log
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord
from dmqnode.ranges import RangeSet
from dmqnode.records import encode_due, read_batch_head, read_sent_at
from dmqnode.repeats import sends_in
from dmqnode.smallrows import Described, Gaps, sparing
from storage.ops import WriteBatch

NOTHING: Gaps = {}


def lack(partition: Partition, gaps: Gaps) -> None:
    """A partition was opened whose copy lacks `gaps`."""
    for log_id, missing in gaps.items():
        log = partition.logs.get(log_id)
        if log is None:
            continue
        for low, high in missing:
            for a, b in log.dead.ranges.gaps(low, min(high, log.durable)):
                log.gaps.add(a, b)
        if log.delayed:
            # What a delivery is known of is not counted as delayed any more.
            untold = log.gaps.size - sum(log.taken.overlap(low, high) for low, high in log.gaps)
            partition.undue = max(0, partition.undue - untold)


def gaps_of(partition: Partition) -> Gaps:
    """Return what a partition's copy lacks."""
    return {log.id: log.gaps for log in partition.logs.values() if log.gaps.size}


def adopt(
    partition: Partition, described: Described, *, certain: bool = True, owed: Gaps = NOTHING
) -> dict[LogId, RangeSet]:
    """Take in what a home shows that did not show it before this node began to lead.

    Arguments:
        certain: in a fifo queue, what nobody showed before was never answered "stored", and dies: that needs
            a majority, and one was asked before this node led (F2), of which none had lost anything.
        owed: what others say that they owe.

    Returns what died by it, per log; batches of it may have to be deleted.
    """
    stale: dict[LogId, RangeSet] = {}
    extra: dict[LogId, RangeSet] = {}
    described = sparing(described, _places(partition, described))
    for log_id, (opened_at, delayed) in described.logs.items():
        if log_id in partition.closed and described.end(log_id) > partition.closed[log_id]:
            reopen(partition, log_id, opened_at, delayed=delayed)
        if log_id in partition.closed:
            continue
        log = partition.logs.get(log_id)
        if log is None:
            log = Log(log_id, opened_at, delayed=delayed)
            partition.add_log(log)
        if new := _extend(partition, log, described, certain=certain):
            extra[log_id] = RangeSet([new])
        died = _kill(partition, log, described.dead.get(log_id))
        if died.size:
            stale[log_id] = died
    for log_id, end in described.closed.items():
        log = partition.logs.get(log_id)
        if log is not None:  # a leader that had not told anybody so far knew all of it to be dead
            log.end, log.durable = max(log.end, end), max(log.durable, end)
            died = _kill(partition, log, RangeSet([(0, end)]))
            if died.size:
                stale[log_id] = died
    for log_id, dead in described.dead.items():
        log = partition.logs.get(log_id)
        if log is not None and log_id not in described.logs:  # of one that it had closed some were spared
            _extend(partition, log, described, certain=certain)
            stale[log_id] = _kill(partition, log, dead)
    for log_id, low, high in list(_repeated(partition, described, extra, owed)):
        void_gaps(partition, partition.logs[log_id], low, high)
    return stale


def _extend(partition: Partition, log: Log, described: Described, *, certain: bool) -> tuple[int, int] | None:
    """Have a log go as far as a home shows it; return which messages are new by that, if any."""
    low, end = log.end, described.end(log.id)
    if end <= low:
        return None
    fifo = partition.settings.ordering == "fifo" and certain
    if fifo:
        log.dead.add(low, end)
    else:
        partition.lack(log, end)
        partition.arriving = min(partition.arriving, described.state.due_low)
    log.end = log.durable = end
    partition.touch()
    return None if fifo else (low, end)


def _places(partition: Partition, described: Described) -> list[Runs]:
    """Return where sends went, as is known here, that a home knows elsewhere: it may have killed these."""
    dedup, found, theirs = partition.dedup, list[Runs](), list(sends_in(described.rows))
    for minute, sent in theirs:
        if sent.name is not None:
            placed = dedup.find_name(sent.name, minute)
            known = None if placed is None else [(placed.log, placed.seq, 1)]
        else:
            known = dedup.find(sent.producer, sent.sequence)
        if known and known != sent.runs:
            found.append(known)
    return found


def _repeated(
    partition: Partition, described: Described, extra: dict[LogId, RangeSet], owed: Gaps
) -> Iterator[tuple[LogId, int, int]]:
    """Yield which messages that only this home shows repeat what is known; remember the others (C5).

    Only this home may show, too, what is lacking here: it may be owed, and was taken in by a leader that
    nobody followed.
    """
    dedup = partition.dedup
    for minute, sent in sends_in(described.rows) if extra or gaps_of(partition) else ():
        for log, first, count in sent.runs:
            pieces = extra[log].within(first, first + count) if log in extra else []
            gaps = partition.logs[log].gaps.within(first, first + count) if log in partition.logs else []
            if not gaps:
                continue
            if sent.name is not None:
                placed = dedup.find_name(sent.name, minute)
                known = None if placed is None else [(placed.log, placed.seq, 1)]
                told = False
            else:
                known = dedup.find(sent.producer, sent.sequence)
                told = known is None and dedup.told(sent.producer, sent.sequence)
            if told or known not in (None, sent.runs):
                yield from ((log, low, high) for low, high in pieces)
                kept = None if sent.name is not None else dedup.kept_at(sent.producer, sent.sequence)
                # That a send was told does not say that this is not the place where it went.
                if known and sent.runs != kept and _safe(partition, known, owed):
                    mine = RangeSet((a, a + n) for at, a, n in known if at == log)  # of a dedup id: in both
                    yield from ((log, a, b) for low, high in gaps for a, b in mine.gaps(low, high))
            elif not pieces:
                continue
            elif known is None and sent.name is not None:
                dedup.remember_name(sent.name, log, first, minute, late=True)
            elif known is None:
                dedup.remember(
                    minute, sent.producer, sent.sequence, 0, sent.runs, kept=sent.kept, inherited=True
                )


def _safe(partition: Partition, runs: Runs, owed: Gaps) -> bool:
    """Tell whether messages are here, or were, or are owed: of the others nobody may have any."""
    return all(
        log in owed and owed[log].covers(a, b)
        for log, first, count in runs
        if log in partition.logs
        for a, b in partition.logs[log].gaps.within(first, first + count)
    )


def _kill(partition: Partition, log: Log, dead: RangeSet | None) -> RangeSet:
    died = RangeSet()
    for low, high in () if dead is None else dead:
        for a, b in log.dead.ranges.gaps(low, high):
            died.add(a, b)
    for low, high in died:
        if log.delayed:
            # What dies before it is due will never come due.
            undue = sum(b - a for a, b in log.open_pieces(low, high))
            partition.undue = max(0, partition.undue - undue)
        log.dead.add(low, high)
        log.gaps.remove(low, high)
    if died.size:
        partition.tainted = True
        partition.touch()
        for other, low in partition.ready.clear(again=False).items():
            other.rewind(low)
    return died


def fill(partition: Partition, log_id: LogId, batches: list[BatchRecord]) -> WriteBatch:
    """Return the write that brings batches which the copy lacked; then `filled` makes them known."""
    ops = WriteBatch()
    log = partition.logs.get(log_id)
    for batch in batches:
        due, count = read_batch_head(batch.record)
        if log is None or not log.gaps.overlap(batch.first, batch.first + count):
            continue
        ops.put(partition.keys.batch(log_id, batch.first), batch.record)
        if due:
            partition.arriving = min(partition.arriving, due)
            value = encode_due(count, read_sent_at(batch.record), len(batch.record))
            ops.put(partition.keys.due(due, log_id, batch.first), value)
    return ops


def filled(now: Now, partition: Partition, log_id: LogId, batches: list[BatchRecord]) -> None:
    """Batches that were lacking are on disk: they can be delivered."""
    log = partition.logs.get(log_id)
    if log is None:
        return
    for batch in batches:
        due, count = read_batch_head(batch.record)
        out = sum(log.taken.overlap(a, b) for a, b in log.gaps.within(batch.first, batch.first + count))
        live = log.gaps.remove(batch.first, batch.first + count)
        if not live:
            if log.dead.ranges.covers(batch.first, batch.first + count):
                # It died while it was on its way to the disk.
                void(partition, log_id, batch.first, batch.first + count)
            continue
        log.arrivals += 1
        partition.state.bytes += len(batch.record)
        if due:
            partition.undue += live - out
            sent_at = read_sent_at(batch.record)
            partition.due.add(DueBatch(due, log_id, batch.first, count, sent_at, len(batch.record)))
        elif batch.first < log.cursor:
            for other, low in partition.ready.clear(again=False).items():
                other.rewind(low)
            log.rewind(batch.first)
    partition.touch()


def reopen(partition: Partition, log_id: LogId, opened_at: int, *, delayed: bool) -> None:
    """A log was closed where all that was known of it was dead; somebody has more of it."""
    end = partition.closed.pop(log_id)
    log = Log(log_id, opened_at, delayed=delayed, end=end)
    log.dead.add(0, end)
    log.cursor = end
    partition.add_log(log)


def void_gaps(partition: Partition, log: Log, low: int, high: int) -> None:
    """Messages that are gaps here die."""
    log.dead.add(low, high)
    log.gaps.remove(low, high)
    void(partition, log.id, low, high)


def void(partition: Partition, log: LogId, low: int, high: int) -> None:
    """Have dead messages deleted that this node does not hold, wherever they are.

    A home may hold them, or this node, of an entry that did not come to count.
    """
    purges = partition.state.purges
    if purges and purges[-1][0] == log and purges[-1][2] == low:
        purges[-1] = (log, purges[-1][1], high)
    else:
        purges.append((log, low, high))
    partition.elsewhere.void(log, low, high)
    partition.touch()


def await_more(partition: Partition, log_id: LogId, end: int) -> None:
    """A keeper of debts has more of a log, up to `end`: until that is offered the log stays open."""
    log = partition.logs.get(log_id)
    if log is not None and end > log.end:
        partition.lack(log, end)
        log.end = log.durable = end
        partition.touch()


def lose(partition: Partition, lost: Gaps) -> None:
    """No home has these messages, and nobody who may be asked: they die, and are not known any more."""
    for log_id, ranges in lost.items():
        for low, high in ranges if log_id in partition.logs else ():
            void_gaps(partition, partition.logs[log_id], low, high)
    partition.dedup.forget_places({log: ranges for log, ranges in lost.items() if log in partition.logs})


def unclaimed(partition: Partition, log_id: LogId, end: int, owed: RangeSet) -> RangeSet:
    """The acceptor of a log says what it still owes below `end`: return what else this copy lacks."""
    log = partition.logs.get(log_id)
    return RangeSet([] if log is None else [r for gap in log.gaps.within(0, end) for r in owed.gaps(*gap)])


def give_up(partition: Partition, never: Gaps) -> None:
    """What the acceptor of a log does not owe, and no home has, never was (C4)."""
    for log_id, ranges in never.items():
        for low, high in ranges:
            void_gaps(partition, partition.logs[log_id], low, high)
