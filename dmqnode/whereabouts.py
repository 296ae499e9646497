"""Which homes of a partition hold what, as its leader knows it."""

from __future__ import annotations

from collections.abc import Container, Mapping

from dmqnode.following import Ranges, Stage, Stream
from dmqnode.ids import LogId, NodeId
from dmqnode.peer_messages import BatchRecord
from dmqnode.ranges import RangeSet
from dmqnode.records import read_batch_head
from dmqnode.smallrows import Gaps


def spread(stream: Stream, me: NodeId, ranges: Ranges, least: int) -> bool:
    """Tell whether messages are on as many disks as a write needs."""
    logs = [(stream.logs.get(log), low, high) for log, low, high in ranges]
    here = all(
        log is None or (high <= log.durable and not log.gaps.overlap(low, high)) for log, low, high in logs
    )
    have = [me] if here else []
    have += [f.node for f in stream.followers.values() if f.stage is Stage.FOLLOWING and f.holds(ranges)]
    return stream.record().has_quorum(have, least)


def whole(stream: Stream, me: NodeId, owed: Gaps, least: int) -> bool:
    """Tell whether as many homes as a write needs have everything that there is, but for what is owed."""
    mine = {log.id: log.gaps for log in stream.logs.values() if log.gaps.size}
    have = [me] if stream.nothing_but_missing(without(mine, owed)) else []
    for follower in stream.followers.values():
        left = without(follower.gaps, owed)
        if follower.stage is Stage.FOLLOWING and stream.nothing_but_missing(left):
            have.append(follower.node)
    return stream.record().has_quorum(have, least)


def nowhere(stream: Stream, ranges: Ranges) -> Ranges:
    """Return which of these messages all homes lack, all following: they do not exist any more."""
    if any(f.stage is not Stage.FOLLOWING for f in stream.followers.values()):
        return ()

    def lacked(gaps: Mapping[LogId, RangeSet], log: LogId, low: int, high: int) -> bool:
        return log in gaps and gaps[log].covers(low, high)

    mine = {log.id: log.gaps for log in stream.logs.values() if log.gaps.size}
    all_gaps = [mine, *(follower.gaps for follower in stream.followers.values())]
    return tuple(found for found in ranges if all(lacked(gaps, *found) for gaps in all_gaps))


def nowhere_of(stream: Stream, gaps: Gaps, members: Container[NodeId]) -> Gaps:
    """Return what of the leader's gaps no home has; nothing, unless all homes say what they have.

    Who is no member any more is not waited for: it never comes back, and while its gaps are no missing ones
    it cannot be left out of the homes.
    """
    if any(f.stage is not Stage.FOLLOWING and f.node in members for f in stream.followers.values()):
        return {}
    return _in_none(stream, gaps)


def unshown(stream: Stream, gaps: Gaps, least: int) -> Gaps:
    """Return what of the leader's gaps no home shows, if those that show nothing are too few for a write."""
    silent = [f.node for f in stream.followers.values() if f.stage is not Stage.FOLLOWING]
    return {} if stream.record().has_quorum(silent, least) else _in_none(stream, gaps)


def _in_none(stream: Stream, gaps: Gaps) -> Gaps:
    found: Gaps = {}
    for log, missing in gaps.items():
        left = RangeSet(missing)
        for follower in (f for f in stream.followers.values() if f.stage is Stage.FOLLOWING):
            for low, high in follower.gaps.get(log, RangeSet()).gaps(0, left.end):
                left.remove(low, high)
        if left.size:
            found[log] = left
    return found


def without(gaps: Gaps, others: Gaps) -> Gaps:
    """Return what is in `gaps` and not in `others`."""
    left = {log: RangeSet(ranges) for log, ranges in gaps.items()}
    for log, ranges in others.items():
        for low, high in ranges if log in left else ():
            left[log].remove(low, high)
    return {log: ranges for log, ranges in left.items() if ranges.size}


def first_held(stream: Stream, gaps: Gaps) -> tuple[NodeId, tuple[LogId, int, int]] | None:
    """Return a home that holds something of the leader's gaps, and what: first of what is relied on."""
    wanted = stream.relied_on(gaps)  # everything else waits until this is here
    for log, low, high in (*wanted, *((g, a, b) for g, missing in gaps.items() for a, b in missing)):
        for follower in stream.followers.values():
            lacking = follower.gaps.get(log)
            if follower.confirmed >= 0 and (lacking is None or lacking.first_gap(low) < high):
                return follower.node, (log, low if lacking is None else lacking.first_gap(low), high)
    return None


def unread(
    stream: Stream, log_id: LogId, low: int, high: int, batches: list[BatchRecord]
) -> tuple[int, int] | None:
    """Return the first range that lives, should be here, and was not among what was read."""
    log = stream.logs.get(log_id)
    if log is None:
        return None
    found = RangeSet((b.first, b.first + read_batch_head(b.record)[1]) for b in batches)
    for a, b in log.dead.ranges.gaps(low, high):
        for c, d in log.gaps.gaps(a, b):
            for missing in found.gaps(c, d):
                return missing
    return None


def dead(stream: Stream, log_id: LogId, batch: BatchRecord) -> bool:
    """Tell whether all messages of a batch are dead."""
    log = stream.logs.get(log_id)
    if log is None:
        return True
    return log.dead.ranges.covers(batch.first, batch.first + read_batch_head(batch.record)[1])
