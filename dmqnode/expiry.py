"""What of a segment is still to be delivered: it may have outlived its time, or have died unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.batch import Batch
from dmqnode.clock import Now
from dmqnode.log import Segment

if TYPE_CHECKING:
    from dmqnode.partition import Partition


def living(partition: Partition, now: Now, segment: Segment, batch: Batch) -> list[Segment]:
    """Return the parts of a segment that live; what has outlived its time dies.

    So does what was accepted before the last purge (T3): another home had it, and who purged did not know.
    """
    if segment.stored.sent_at <= partition.state.purged_at:
        partition.counters.purged += partition.kill([segment])
        return []
    if not partition.tainted:
        return _unexpired(partition, now, segment, batch)
    pieces = segment.stored.log.dead.ranges.gaps(segment.low, segment.high)
    _let_go(partition, segment, pieces)
    return [s for a, b in pieces for s in _unexpired(partition, now, segment.cut(a, b), batch)]


def _let_go(partition: Partition, segment: Segment, living: list[tuple[int, int]]) -> None:
    """What died unseen needs no note, and holds up nobody of its group."""
    log, at = segment.stored.log, segment.low
    for low, high in [*living, (segment.high, segment.high)]:
        if at < low:
            partition.holds.release(segment.cut(at, low))
            log.taken.remove(at, low)
        at = high
    if segment.group is not None and not living:
        partition.ready.groups.free(segment.group)


def _unexpired(partition: Partition, now: Now, segment: Segment, batch: Batch) -> list[Segment]:
    stored = segment.stored
    if (stored.due or stored.sent_at) + partition.settings.retention * 1000 <= now.wall:
        _expire(partition, [segment])
        return []
    if "t" not in batch.metadata:
        return [segment]
    alive: list[Segment] = []
    expired: list[Segment] = []
    for seq in range(segment.low, segment.high):
        ttl = batch.value("t", seq - stored.first)
        into = expired if ttl is not None and stored.sent_at + ttl <= now.wall else alive
        if into and into[-1].high == seq:
            into[-1].high += 1
        else:
            into.append(segment.cut(seq, seq + 1))
    _expire(partition, expired)
    return alive


def _expire(partition: Partition, segments: list[Segment]) -> None:
    partition.counters.expired += partition.kill(segments)
