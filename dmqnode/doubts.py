"""Messages that a copy lacks, and that repeat a send which went elsewhere, where it is lacking, too (C5).

A home may hold such a message that was a debt, which a leader took in whom nobody followed, or a send that no
other disk has.  Were both fetched, the send would come out twice.  So it is left where it is until what
it repeats

    is on enough homes                   it dies
    is lost                              it stands for it, and is fetched
    has not come for PATIENCE seconds    it is fetched; once that is on enough homes, what it repeats dies
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dmqnode.clock import Now
from dmqnode.dedup import Runs
from dmqnode.following import Ranges
from dmqnode.ids import LogId, PartitionId
from dmqnode.mending import gaps_of, placed, void_gaps
from dmqnode.partition import Partition
from dmqnode.peer_messages import BatchRecord
from dmqnode.ranges import RangeSet
from dmqnode.records import read_batch_head
from dmqnode.repeats import Known, sends_in
from dmqnode.smallrows import Gaps

PATIENCE = 30.0
"""Seconds for which what a send went to first is waited for: who has it may be away."""

Spread = Callable[[Ranges], bool]
"""Tells whether messages are on as many disks as a write needs."""


@dataclass(slots=True)
class _Doubt:
    """Where a send is, as a home says, and is not, as others do."""

    minute: int
    sent: Known
    until: float
    stands: bool = False


class Doubts:
    """What is in doubt of all partitions that are led here."""

    def __init__(self) -> None:
        self._open: dict[PartitionId, dict[tuple[LogId, int, int], _Doubt]] = {}
        self._beside: dict[PartitionId, Gaps] = {}
        """What is in one batch with something in doubt."""

    def learn(self, now: Now, partition: Partition, rows: Mapping[bytes, bytes]) -> None:
        """A home says in its small records where sends went.  Errors: ProtocolError."""
        for minute, sent in sends_in(rows) if gaps_of(partition) else ():
            for log_id, first, count in sent.runs:
                log, end = partition.logs.get(log_id), first + count
                if log is not None and log.gaps.overlap(first, end) and _elsewhere(partition, minute, sent):
                    doubts = self._open.setdefault(partition.id, {})
                    doubts.setdefault((log_id, first, end), _Doubt(minute, sent, now.run + PATIENCE))

    def settle(self, now: Now, partition: Partition, spread: Spread) -> bool:
        """Look again at what is in doubt; tell whether something died."""
        doubts, died = self._open.get(partition.id, {}), False
        for place, doubt in list(doubts.items()):
            log, known = partition.logs.get(place[0]), _elsewhere(partition, doubt.minute, doubt.sent)
            lacking = log is not None and log.gaps.overlap(place[1], place[2])
            if not doubt.stands and now.run >= doubt.until:
                doubt.stands = True
                self._beside.pop(partition.id, None)
            if not known or not (lacking or doubt.stands):
                del doubts[place]
            elif lacking and spread(_ranges(known)):
                del doubts[place]
                died = _die(partition, [place], known) or died
            elif not lacking and spread((place,)):
                del doubts[place]
                died = _die(partition, _ranges(known), doubt.sent.runs) or died
            else:
                continue
            self._beside.pop(partition.id, None)
        if not doubts:
            self._open.pop(partition.id, None)
        return died

    def without(self, partition: PartitionId, log: LogId, batches: list[BatchRecord]) -> list[BatchRecord]:
        """Return which batches to take in, and remember what the others have besides what is in doubt."""
        doubted, left = self.of(partition).get(log, RangeSet()), []
        for batch in batches:
            end = batch.first + read_batch_head(batch.record)[1]
            if doubted.overlap(batch.first, end):
                beside = self._beside.setdefault(partition, {})
                beside.setdefault(log, RangeSet()).add(batch.first, end)
            else:
                left.append(batch)
        return left

    def of(self, partition: PartitionId) -> Gaps:
        """Return what is not to be fetched."""
        found = {log: RangeSet(ranges) for log, ranges in self._beside.get(partition, {}).items()}
        for (log, low, high), doubt in self._open.get(partition, {}).items():
            if not doubt.stands:
                found.setdefault(log, RangeSet()).add(low, high)
        return found

    def leave(self, partition: PartitionId) -> None:
        """It is led here no more."""
        self._open.pop(partition, None)
        self._beside.pop(partition, None)


def _elsewhere(partition: Partition, minute: int, sent: Known) -> Runs:
    """Return where a send went, as is known here, if that is not where a home says."""
    known = placed(partition.dedup, minute, sent)
    return known if known and known != sent.runs else []


def _ranges(runs: Runs) -> Ranges:
    return tuple((log, first, first + count) for log, first, count in runs)


def _die(partition: Partition, places: Iterable[tuple[LogId, int, int]], but: Runs) -> bool:
    """Have die what is lacking at some places, but not at those others; tell whether something did."""
    died = False
    for log_id, low, high in places:
        log = partition.logs.get(log_id)
        if log is None:
            continue
        spared = RangeSet((first, end) for at, first, end in _ranges(but) if at == log_id)
        for a, b in [piece for gap in log.gaps.within(low, high) for piece in spared.gaps(*gap)]:
            void_gaps(partition, log, a, b)
            died = True
    return died
