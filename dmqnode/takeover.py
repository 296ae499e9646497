"""From the lease to serving: what a majority of the homes holds becomes what the new leader has.

Acquired ──> own copy read, others asked (Inspect) ──> enough have shown their copies ──> merged, written
         ──> the partition opened from disk, as after a restart ──> homes aligned, lease.merged(),
             in a fifo queue once a majority of the homes is aligned: then every later leader ends the older
             logs where this one does, before anything was given out (F2)

A majority is enough: what was answered is on one of it.  Where that need not be so, all are waited for: a
disk has damaged a copy, or the homes were formed anew of what was left (M4), so that most may have nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dmqnode.clock import Now
from dmqnode.copies import Copies
from dmqnode.copying import Own, align_rows, split_own
from dmqnode.following import Stream
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber
from dmqnode.hosting import Hosting
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.keys import PartitionKeys, harm_key
from dmqnode.log import Log
from dmqnode.peer_messages import Inspect, Summary
from dmqnode.port import Port
from dmqnode.smallrows import (
    Shown,
    certain,
    decode_gaps,
    decode_rows,
    describe,
    encode_stamp,
    harmed,
    merge,
    own_ranges,
    stamp_key,
)
from dmqnode.streams import ASK_AGAIN, Streams
from storage.ops import WriteBatch

PATIENCE = 10.0
"""Seconds for which homes may still show theirs where a majority may not know everything.

Not for as long as they are members: where fewer than R would remain nobody is forgotten, and one that died
since the decision would hold up everybody for ever.  When it is back it adds what it has, where that counts.
"""
TRIES = 3
"""How often to write what the disk damages while it is written."""


@dataclass(slots=True)
class _Takeover:
    number: LeaseNumber
    record: HomeSet
    keys: PartitionKeys
    asked_at: float
    began: float
    shown: dict[NodeId, Shown] = field(default_factory=dict)
    own: Own | None = None
    merging: bool = False
    sealed: bool = False
    """Whether the copy that followed furthest says alone what lives (F2)."""
    tries: int = TRIES


class Takeovers:
    """The partitions of which this node holds the lease and that it does not serve yet."""

    def __init__(
        self,
        me: NodeId,
        port: Port,
        hosting: Hosting,
        copies: Copies,
        streams: Streams,
        *,
        counted: Callable[[PartitionId], HomeSet | None],
        merged: Callable[[PartitionId, LeaseNumber], None],
    ) -> None:
        self._me = me
        self._port = port
        self._hosting = hosting
        self._copies = copies
        self._streams = streams
        self._counted = counted
        self._merged = merged
        self._under_way: dict[PartitionId, _Takeover] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, now: Now, partition: PartitionId, number: LeaseNumber, record: HomeSet) -> None:
        """This node has the lease: find out what the homes hold."""
        keys = PartitionKeys.of(partition)
        takeover = _Takeover(number, record, keys, now.run, now.run)
        self._under_way[partition] = takeover

        def read(now: Now, found: dict[bytes, bytes]) -> None:
            takeover.own = own = split_own(keys, found)
            if self._under_way.get(partition) is takeover:
                takeover.shown[self._me] = Shown(own.stamp, describe(own.rows), own.gaps)
                self._see(now, partition, takeover)

        self._port.boundary(own_ranges(keys), read)
        self._ask(partition, takeover)

    def _ask(self, partition: PartitionId, takeover: _Takeover) -> None:
        for node in takeover.record.members:
            if node != self._me and node not in takeover.shown:
                self._port.send(node, Inspect(partition, takeover.number.n))

    def cancel(self, partition: PartitionId) -> None:
        """The lease is over."""
        self._under_way.pop(partition, None)

    def waits(self, partition: PartitionId) -> bool:
        """Tell whether only homes are waited for that may know what most do not."""
        takeover = self._under_way.get(partition)
        return takeover is not None and not takeover.merging and takeover.record.has_majority(takeover.shown)

    def tick(self, now: Now) -> list[PartitionId]:
        """Ask those again that were silent.

        Returns the partitions of queues that are deleted, to be given up: no home shows its copy any more.
        """
        for partition, takeover in list(self._under_way.items()):
            if not takeover.merging and now.run - takeover.asked_at >= ASK_AGAIN:
                takeover.asked_at = now.run
                self._ask(partition, takeover)
                self._see(now, partition, takeover)
        return [partition for partition in self._under_way if self._copies.deleted(partition)]

    def on_summary(self, now: Now, sender: NodeId, summary: Summary) -> None:
        """A home shows its copy.  Errors: ProtocolError."""
        partition = summary.partition
        rows, gaps = decode_rows(summary.rows), decode_gaps(summary.gaps)
        takeover = self._under_way.get(partition)
        if takeover is not None and takeover.number.n == summary.n and not takeover.merging:
            stamp = (LeaseNumber(summary.stamp_n, NodeId(summary.stamp_node)), summary.stamp_seq)
            takeover.shown[sender] = Shown(stamp, describe(rows), gaps)
            self._see(now, partition, takeover)
            return
        stream = self._streams.find(partition, summary.n)
        if stream is not None:
            described = describe(rows)
            described = described.ends_only() if stream.certain else described
            self._hosting.adopt(now, partition, described, certain=stream.certain)
            self._streams.align(stream, sender)

    def _see(self, now: Now, partition: PartitionId, takeover: _Takeover) -> None:
        """With a majority, this node among it, merge what was shown."""
        if takeover.merging or takeover.own is None:
            return
        if not self._enough(now, takeover):
            return
        takeover.merging = True
        mine = takeover.shown[self._me]
        takeover.sealed = self._hosting.sealed(partition) and certain(takeover.shown.values())
        rows, _ = merge(takeover.shown.values(), mine, sealed=takeover.sealed)
        ops, gaps, stale, dead = align_rows(takeover.keys, takeover.own, rows)
        ops.put(stamp_key(takeover.keys), encode_stamp((takeover.number, 0)))

        def opened(now: Now, logs: dict[LogId, Log]) -> None:
            if self._under_way.get(partition) is not takeover:
                return
            del self._under_way[partition]
            self._copies.adopt(partition, takeover.number, gaps)
            self._lead(now, partition, takeover, logs)
            self._copies.delete(now, partition, stale, dead)

        def damaged(lost: list[bytes]) -> bool:
            # Nobody else writes it again, and a send whose repetition nobody recognises is in two places.
            again = WriteBatch()
            for key in lost:
                record, mark = rows.get(key[len(takeover.keys.prefix) :]), harm_key(key)
                if record is not None and mark is not None:
                    again.put(key, record)
                    again.delete(mark)
            takeover.tries -= 1
            if not len(again) or takeover.tries <= 0 or self._under_way.get(partition) is not takeover:
                return False
            self._port.write(again, written)
            return True

        def written(now: Now) -> None:
            if self._under_way.get(partition) is takeover:
                self._hosting.open_partition(now, partition, gaps, opened, damaged)

        self._port.write(ops, written)

    def _enough(self, now: Now, takeover: _Takeover) -> bool:
        """Tell whether enough have shown theirs: a majority; for a while all, if it may lack something."""
        shown, record = takeover.shown, takeover.record
        if not record.has_majority(shown):
            return False
        waited = now.run - takeover.began >= PATIENCE or len(shown) >= len(record.members)
        return waited or not (harmed(shown.values()) or (record.formed_anew and not _led(record, shown)))

    def _lead(self, now: Now, partition: PartitionId, takeover: _Takeover, logs: dict[LogId, Log]) -> None:
        first = takeover.record

        def record() -> HomeSet:
            counted = self._counted(partition)
            return first if counted is None else counted

        stream = Stream(partition, takeover.number, record, logs)
        stream.certain = takeover.sealed
        self._streams.open(stream)
        for node in takeover.shown:
            if node != self._me:
                self._streams.align(stream, node)
        if self._hosting.sealed(partition):
            self._streams.seal(now, stream, lambda now: self._merged(partition, takeover.number))
        else:
            self._merged(partition, takeover.number)


def _led(record: HomeSet, shown: dict[NodeId, Shown]) -> bool:
    """Tell whether most homes of a set followed one leader: so somebody has led it since it was formed.

    Those that were left are less than a majority, and the others had followed nobody.
    """
    last, _ = max(copy.stamp for copy in shown.values())
    return last != NO_LEASE and record.has_majority([n for n, c in shown.items() if c.stamp[0] == last])
