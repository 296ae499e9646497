"""Messages that no home of their partition has: every copy was damaged, or never came about.

gap at the leader ──all homes follow, none has it──> all look on their disks
    all have said that it is not there, and a while is over ──> missing: reported by number
                      └─ nobody who could have it is away ──> lost: dead

Nobody looks for what somebody owes, nor before those that owe something have had the time to say so: a home
may have on its disk, and lack, what it took in as a leader whom nobody followed.

A gap that somebody may still fill, who is away or owes a debt, stays one; but what is missing on all homes
alike holds up nothing: neither moves nor hand-overs nor, in a fifo queue, what is behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dmqnode.clock import Now
from dmqnode.following import Stream
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId, QueueId, message_id
from dmqnode.looking import Looking
from dmqnode.mending import lose
from dmqnode.peer_messages import Fill
from dmqnode.ranges import RangeSet
from dmqnode.smallrows import Gaps
from dmqnode.whereabouts import nowhere_of, without

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

SURE = 30.0
"""Seconds for which no home has a message, and all members answer, before it is given up."""
SURE_SEALED = 1.0
"""The same where nobody but homes takes messages in."""
CLAIMED = 10.0
"""Seconds for which to believe a node that it owes a batch."""
HEARD = 8.0
"""Seconds after which whoever owes something of a partition and answers has said so to its leader."""
BLOCKED = 2.0
"""Seconds after which an answer does not wait any more for messages that no home has."""


class _Seen(NamedTuple):
    since: float
    gaps: Gaps
    owed: Gaps
    """What of them was not looked for, for somebody owes it."""
    looking: Looking


class _Claim(NamedTuple):
    since: float
    gaps: Gaps


class Missing:
    """Finds what no home has, and says so."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._seen: dict[PartitionId, _Seen] = {}
        self._claims: dict[PartitionId, dict[NodeId, _Claim]] = {}
        self._blocking: dict[PartitionId, tuple[float, Gaps]] = {}
        """What no home had at some moment not long ago."""
        self._led: dict[PartitionId, tuple[LeaseNumber, float]] = {}
        """Under which lease partitions are led here, and since when."""

    def claimed(self, now: Now, partition: PartitionId, node: NodeId, gaps: Gaps) -> None:
        """A node says what it owes of a partition."""
        self._claims.setdefault(partition, {})[node] = _Claim(now.run, gaps)

    def owed(self, now: Now, partition: PartitionId) -> Gaps:
        """Return what others say that they owe."""
        owed: Gaps = {}
        for claim in self._claims.get(partition, {}).values():
            for log, ranges in claim.gaps.items() if now.run - claim.since < CLAIMED else ():
                for low, high in ranges:
                    owed.setdefault(log, RangeSet()).add(low, high)
        return owed

    def expects_more(self, now: Now, partition: PartitionId) -> bool:
        """Tell whether somebody may still bring, as a debt or a home, what was sent once more since (C5)."""
        heard = self._heard(now, partition) and self._all_here(now)
        return not heard or bool(self.owed(now, partition))

    def _heard(self, now: Now, partition: PartitionId) -> bool:
        """Tell whether those that answer have said what they owe."""
        led = self._led.get(partition)
        return led is not None and now.run - led[1] >= HEARD

    def step(self, now: Now) -> None:
        """Look at all partitions that are led here."""
        led: dict[PartitionId, None] = {}
        for stream in self._clustering.cluster.streams:
            led[stream.partition] = None
            if (before := self._led.get(stream.partition)) is None or before[0] != stream.number:
                self._led[stream.partition] = stream.number, now.run
            self._look(now, stream)
        for known in (self._seen, self._blocking, self._claims, self._led):
            for partition in [p for p in known if p not in led]:
                del known[partition]

    def _look(self, now: Now, stream: Stream) -> None:
        partition, cluster = stream.partition, self._clustering.cluster
        gaps = self._clustering.hosted.missing(partition)
        if not gaps:
            stream.missing = {}
            self._seen.pop(partition, None)
            self._blocking.pop(partition, None)
            return
        members = self._clustering.rosters.current.nodes
        nowhere = nowhere_of(stream, gaps, members) if cluster.leads(partition) else {}
        stream.missing = in_both(stream.missing, nowhere)
        self._unblock(now, stream, nowhere)
        owed = in_both(nowhere, self._not_looked_for(now, partition))
        seen = self._seen.get(partition)
        still = (
            in_both(seen.gaps, nowhere) if seen is not None and seen.looking.number == stream.number else {}
        )
        if seen is None or not still or in_both(without(seen.owed, owed), nowhere):
            self._seen.pop(partition, None)
            if not nowhere:
                return
            seen, still = _Seen(now.run, nowhere, owed, Looking(stream.number)), nowhere
        seen = self._seen[partition] = seen._replace(gaps=still, owed=owed)
        sealed = self._clustering.hosted.sealed(partition)
        wanted = without(still, owed)
        if sealed or self._heard(now, partition):
            self._look_on(now, stream, seen, wanted)
        # Nobody has what is owed, as far as that goes: it holds up nothing else.
        certain = joined(seen.looking.looked_for(self._homes(stream), wanted), in_both(still, owed))
        if not certain or now.run - seen.since < (SURE_SEALED if sealed else SURE):
            return
        if sealed or self._all_here(now):
            if rest := without(still, certain):
                self._seen[partition] = seen._replace(gaps=rest)
            else:
                del self._seen[partition]
            self._give_up(now, stream, certain)
            return
        if without(nowhere, still) and not without(still, certain):
            # All have been asked for all of it: what is lacking since is to be looked for, too.
            del self._seen[partition]
        else:
            self._seen[partition] = seen._replace(since=now.run)
        self._report("messages are missing: no home that answers has them", stream, certain)
        for log, ranges in certain.items():
            for low, high in ranges:
                stream.missing.setdefault(log, RangeSet()).add(low, high)

    def _not_looked_for(self, now: Now, partition: PartitionId) -> Gaps:
        """Return what comes as a debt, which says what it repeats (C5).

        A member that owed it and is away owes it still.
        """
        owed, clustering = self.owed(now, partition), self._clustering
        for node, claim in self._claims.get(partition, {}).items():
            if not clustering.reachable(node) and node in clustering.rosters.current.nodes:
                owed = joined(owed, claim.gaps)
        return owed

    def _unblock(self, now: Now, stream: Stream, nowhere: Gaps) -> None:
        """Nobody waits for long for what no home has, whatever is looked for meanwhile."""
        since, before = self._blocking.get(stream.partition, (now.run, nowhere))
        if now.run - since >= BLOCKED:
            if lasting := in_both(before, nowhere):
                self._clustering.hosted.unblock(now, stream, lasting)
            since, before = now.run, nowhere
        self._blocking[stream.partition] = since, before

    def _homes(self, stream: Stream) -> list[NodeId]:
        """Return who must have looked: this node, and all that follow."""
        return [self._clustering.me, *stream.following()]

    def _look_on(self, now: Now, stream: Stream, seen: _Seen, wanted: Gaps) -> None:
        if (page := seen.looking.next_page(now, stream, self._homes(stream), wanted)) is not None:
            self._clustering.send(*page)

    def looked(self, now: Now, node: NodeId, fill: Fill) -> None:
        """What a home has found on its disk is taken in: go on, if it was asked for that."""
        seen, stream = self._seen.get(fill.partition), self._clustering.cluster.streams.of(fill.partition)
        if stream is None or seen is None or seen.looking.number != stream.number:
            return
        if seen.looking.answered(node, fill.log, fill.low, fill.high):
            self._look_on(now, stream, seen, without(seen.gaps, seen.owed))

    def _all_here(self, now: Now) -> bool:
        """Tell whether every member has been there for so long that it would have shown what it has."""
        clustering = self._clustering
        since = [clustering.linked.get(n) for n in clustering.rosters.current.nodes if n != clustering.me]
        return all(s is not None and now.run - s >= SURE for s in since)

    def _give_up(self, now: Now, stream: Stream, gaps: Gaps) -> None:
        lost = without(gaps, self.owed(now, stream.partition))
        shard = self._clustering.hosted.shards.get(stream.partition)
        if not lost or shard is None:
            return
        self._report("messages are lost: no home has them", stream, lost)
        for hosted in shard.partitions:
            lose(hosted, lost)
            self._broker.counters.lost += sum(ranges.size for ranges in lost.values())
            self._clustering.hosted.changed(now, shard, hosted)

    def _report(self, message: str, stream: Stream, gaps: Gaps) -> None:
        definition = self._broker.registry.definition_of(QueueId(stream.partition[:8]))
        name = "" if definition is None else definition.name
        for entry in listed(gaps):
            self._broker.surroundings.report(message, {"queue": name, **entry})

    def missing_of(self, partition: PartitionId) -> list[dict[str, object]]:
        """Return what no home of a partition led here has, for people."""
        streams = [s for s in self._clustering.cluster.streams if s.partition == partition]
        return [entry for stream in streams for entry in listed(stream.missing)]


def joined(a: Gaps, b: Gaps) -> Gaps:
    """Return what is in either."""
    return {log: RangeSet([*a.get(log, ()), *b.get(log, ())]) for log in {**a, **b}}


def in_both(a: Gaps, b: Gaps) -> Gaps:
    """Return what is in both."""
    both = {
        log: RangeSet(p for low, high in a[log] for p in b[log].within(low, high)) for log in a if log in b
    }
    return {log: ranges for log, ranges in both.items() if ranges.size}


LISTED = 100
"""Ranges that are told by number."""


def listed(gaps: Gaps) -> list[dict[str, object]]:
    """Return ranges of messages by number."""
    ranges = [(log, low, high) for log, missing in gaps.items() for low, high in missing]
    return [{"first": message_id(LogId(log), low), "count": high - low} for log, low, high in ranges[:LISTED]]
