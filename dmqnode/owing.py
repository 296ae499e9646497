"""What a debt brings to a led partition: it is new, repeats a send, or stands for one that is lost (C5)."""

from __future__ import annotations

from dmqnode.clock import Now
from dmqnode.dedup import Runs, overlaps
from dmqnode.following import Ranges
from dmqnode.ids import LogId
from dmqnode.log import Log
from dmqnode.mending import fill, lose, reopen, void_gaps
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord, Debt
from dmqnode.ranges import RangeSet
from dmqnode.records import decode_batch, read_batch_head, read_sent_at
from dmqnode.smallrows import Gaps
from storage.ops import WriteBatch


def take_debt(now: Now, partition: Partition, debt: Debt) -> WriteBatch:
    """Take in a batch that another node accepted while nobody led, under its id; return its write.

    What is held or dead already, was purged since, or repeats another send, brings nothing (C3, C5): the
    caller has seen to it that what it repeats is safe.
    """
    due, count = read_batch_head(debt.record)
    end = debt.first + count
    if partition.closed.get(debt.log, 0) >= end:
        return WriteBatch()
    if debt.log in partition.closed:
        reopen(partition, debt.log, now.wall, delayed=due > 0)
    log = partition.logs.get(debt.log)
    if log is None:
        opened_at = max([now.wall, *(g.opened_at + 1 for g in partition.logs.values())])
        log = Log(debt.log, opened_at, delayed=due > 0)
        partition.add_log(log)
    if log.dead.ranges.covers(debt.first, end):
        return WriteBatch()
    if end <= log.end and not log.gaps.overlap(debt.first, end):
        return WriteBatch()
    if end > log.end:
        partition.lack(log, end)
        log.end = log.durable = end
    partition.touch()
    if read_sent_at(debt.record) <= partition.state.purged_at or _known(partition, debt):
        void_gaps(partition, log, debt.first, end)
        return WriteBatch()
    _remember(now, partition, log, debt, count)
    return fill(partition, debt.log, [BatchRecord(debt.first, debt.record)])


def _known(partition: Partition, debt: Debt) -> bool:
    """Tell whether a debt repeats another send; not whether the same debt was offered before."""
    if not debt.producer:
        return False
    return bool(repeated(partition, debt)) or settled(partition, debt)


def repeated(partition: Partition, debt: Debt) -> Runs:
    """Return where that went which a debt repeats; nothing if it repeats nothing, but itself perhaps."""
    runs = _placed(partition, debt)
    mine = any(log == debt.log and first <= debt.first < first + count for log, first, count in runs)
    return [] if mine else runs


def named(partition: Partition, debt: Debt) -> Runs:
    """Return where messages went that bear the dedup ids of a debt's; nothing of the debt itself.

    Errors: Unreadable.
    """
    sent_at, _, batch = decode_batch(debt.record)
    found: Runs = []
    for i in range(batch.count) if "d" in batch.metadata else ():
        name = batch.value("d", i)
        placed = None if name is None else partition.dedup.find_name(name, sent_at // 60_000)
        if placed is not None and (placed.log, placed.seq) != (debt.log, debt.first + i):
            found.append((placed.log, placed.seq, 1))
    return found


def settled(partition: Partition, debt: Debt) -> bool:
    """Tell whether a debt repeats a send whose outcome was told, so that it is forgotten where that went."""
    told = bool(debt.producer) and partition.dedup.told(debt.producer, debt.sequence)
    return told and not _placed(partition, debt)


def _placed(partition: Partition, debt: Debt) -> Runs:
    return (partition.dedup.find(debt.producer, debt.sequence) or []) if debt.producer else []


def _remember(now: Now, partition: Partition, log: Log, debt: Debt, count: int) -> None:
    if debt.producer:
        runs = [(debt.log, debt.first, count)]
        partition.dedup.remember(
            now.wall // 60_000, debt.producer, debt.sequence, debt.floor, runs, kept=True
        )
    sent_at, _, batch = decode_batch(debt.record)
    if "d" not in batch.metadata:
        return
    for i in range(batch.count):
        name = batch.value("d", i)
        if name is None:
            continue
        # Under one dedup id may come, minutes later, what is meant to be another message.
        placed = partition.dedup.find_name(name, sent_at // 60_000)
        if placed is not None and (placed.log, placed.seq) != (debt.log, debt.first + i):
            void_gaps(partition, log, debt.first + i, debt.first + i + 1)
        else:
            minute = sent_at // 60_000
            partition.dedup.remember_name(name, debt.log, debt.first + i, minute, late=True)


def give_up_for(now: Now, partition: Partition, debt: Debt, lost: Ranges) -> bool:
    """No home has what a debt repeats: that dies, and the debt stands for it.

    What of the debt was dead already, for a leader that nobody followed had taken it for a repetition of what
    is lost now, is sent anew, under other ids, as of when it was sent.

    Returns whether something was.  Errors: Unreadable.
    """
    gone: Gaps = {}
    for log_id, low, high in lost:
        gone.setdefault(log_id, RangeSet()).add(low, high)
    sent_at, due, batch = decode_batch(debt.record)
    died = [i for i in _repeating(partition, debt, gone) if _dead(partition, debt.log, debt.first + i)]
    lose(partition, gone)
    if not died or sent_at <= partition.state.purged_at:
        return False
    whole = len(died) == batch.count
    if whole and debt.producer:  # where it was taken in once it is dead, too
        own = RangeSet([(debt.first, debt.first + batch.count)])
        partition.dedup.forget_places({debt.log: own})
    partition.append(
        now._replace(wall=sent_at),
        batch if whole else batch.select(died),
        delay=(due - sent_at) / 1000 if due else 0.0,
        producer=debt.producer if whole else b"",
        sequence=debt.sequence,
        floor=debt.floor,
    )
    return True


def _repeating(partition: Partition, debt: Debt, places: Gaps) -> list[int]:
    """Return which messages of a debt repeat what is at some places."""
    sent_at, _, batch = decode_batch(debt.record)
    if overlaps(places, repeated(partition, debt)):
        return list(range(batch.count))
    found = []
    for i in range(batch.count) if "d" in batch.metadata else ():
        name = batch.value("d", i)
        placed = None if name is None else partition.dedup.find_name(name, sent_at // 60_000)
        if placed is not None and overlaps(places, [(placed.log, placed.seq, 1)]):
            found.append(i)
    return found


def _dead(partition: Partition, log_id: LogId, seq: int) -> bool:
    log = partition.logs.get(log_id)
    return seq < partition.closed.get(log_id, 0) if log is None else log.dead.ranges.covers(seq, seq + 1)
