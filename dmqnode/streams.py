"""The leader's side of replication: what it changed goes to every home, in order, while it writes itself.

    per home    ASKED ──Summary──> SEEN ──small records read──> ALIGNING ──Aligned──> FOLLOWING
                  └────── silent, out of turn, or too far behind: asked again ────────────┘

One frame per write group and home.  What a write group promised is answered once a majority of the homes,
and no fewer than W', have it on disk, this node among them (Q1): then every later leader knows it, whoever
it is, because a majority is asked before it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dmqnode.clock import Now
from dmqnode.comparing import Comparing
from dmqnode.copying import encode_ops
from dmqnode.filling import Filling
from dmqnode.following import Follower, Ranges, Stage, Stream, Waiting
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Blob
from dmqnode.peer_messages import (
    Align,
    Aligned,
    Compared,
    Entry,
    Fill,
    Filled,
    Inspect,
    Ship,
    Shipped,
    Unaligned,
)
from dmqnode.port import Port, Then
from dmqnode.ranges import RangeSet
from dmqnode.records import read_batch_head
from dmqnode.roster import ROSTER
from dmqnode.smallrows import Gaps, Stale, decode_gaps, encode_rows, small_ranges
from dmqnode.whereabouts import nowhere, spread, unshown, whole
from storage.ops import WriteBatch

ASK_AGAIN = 0.5
"""Seconds after which a silent home is asked again."""
FALL_BEHIND = 64 << 20
"""Bytes shipped and not confirmed beyond which a home must begin again."""
FILL_AT_ONCE = 8 << 20
"""Bytes of a message range that one Fill may cover; it carries less, as much as one read gives."""


class Streams:
    """All partitions that this node leads.

    Arguments:
        me: this node.
        port: to the rest of the node.
        least: returns W', the copies on disk that a write needs.
    """

    def __init__(self, me: NodeId, port: Port, least: Callable[[], int]) -> None:
        self._me = me
        self._port = port
        self._least = least
        self._streams: dict[PartitionId, Stream] = {}
        self._outbox: dict[tuple[NodeId, bool], list[Entry]] = {}
        self.filling = Filling(port, self._streams, least)
        self.comparing = Comparing(port, self._streams)

    def of(self, partition: PartitionId) -> Stream | None:
        """Return the stream of a partition if this node leads it."""
        return self._streams.get(partition)

    def find(self, partition: PartitionId, n: int) -> Stream | None:
        """Return the stream of a partition if this node leads it with lease `n`."""
        stream = self._streams.get(partition)
        return stream if stream is not None and stream.number.n == n else None

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    def position(self, partition: PartitionId) -> int:
        """Return the last entry of a partition led here."""
        stream = self._streams.get(partition)
        return 0 if stream is None else stream.seq

    def number(self, partition: PartitionId) -> LeaseNumber:
        """Return with which lease this node leads a partition."""
        return self._streams[partition].number

    # --- beginning and ending ------------------------------------------------------------------------

    def open(self, stream: Stream) -> None:
        """Begin to lead a partition; its homes are asked what they hold."""
        self._streams[stream.partition] = stream
        self.refresh(stream)

    def seal(self, now: Now, stream: Stream, then: Then) -> None:
        """Call `then` once a majority of the homes has on disk where this leader ends each older log (F2).

        Homes that follow have that.  Until then nothing may be handed out, nor taken in: a later leader that
        has seen none of them may end a log elsewhere, and give out what lies before what was given out here.
        """
        stream.unsealed = then
        self._complete(now, stream)

    def unsealed(self, partition: PartitionId) -> bool:
        """Tell whether a partition that this node leads waits for its homes to follow; see `seal`."""
        stream = self._streams.get(partition)
        return stream is not None and stream.unsealed is not None

    def close(self, partition: PartitionId) -> list[Then]:
        """Lead no more; return what waited for copies and will not be known to be there."""
        stream = self._streams.pop(partition, None)
        return [] if stream is None else [w.then for w in stream.waiting]

    def refresh(self, stream: Stream, learners: Iterable[NodeId] = ()) -> None:
        """Follow the home set: `learners` are to hold copies before they become homes."""
        wanted = dict.fromkeys((*stream.record().members, *learners))
        wanted.pop(self._me, None)
        for node in [n for n in stream.followers if n not in wanted]:
            del stream.followers[node]
        for node in wanted:
            if node not in stream.followers:
                stream.followers[node] = Follower(node)

    # --- shipping ------------------------------------------------------------------------------------

    def collected(
        self,
        partition: PartitionId,
        ops: WriteBatch,
        *,
        sync: bool,
        lacks: Gaps,
        brought: Ranges = (),
        voids: Stale | None = None,
    ) -> tuple[LeaseNumber, int] | None:
        """Ship what a write group changes in a partition.

        Arguments:
            lacks: messages that belong to the partition from now on, and that nobody has who follows.
            brought: messages that `ops` writes.
            voids: messages that died and that this node does not hold: whoever follows deletes them.

        Returns the lease and the number of the entry in it; None if this node leads no more.
        """
        stream = self._streams.get(partition)
        if stream is None:
            return None
        stream.seq += 1
        for log, low, high in brought:
            if log in lacks:
                lacks[log].remove(low, high)
        if not stream.followers:
            return stream.number, stream.seq
        entry = Entry(
            partition, stream.number.n, stream.seq, Blob(encode_ops(stream.keys, ops, lacks, voids or {}))
        )
        for follower in stream.followers.values():
            if follower.buffered is not None:
                follower.buffered.append(entry)
            elif follower.stage in (Stage.ALIGNING, Stage.FOLLOWING):
                self._outbox.setdefault((follower.node, sync), []).append(entry)
            else:
                continue
            follower.ship(stream.seq, lacks, voids or {}, brought)
            self._count(follower, entry)
        return stream.number, stream.seq

    def _count(self, follower: Follower, entry: Entry) -> None:
        size = len(entry.ops)
        follower.sizes.append((entry.seq, size))
        follower.under_way += size
        if follower.under_way > FALL_BEHIND:
            follower.begin_again()

    def flush(self) -> None:
        """Send what has gathered: one frame for each home."""
        outbox, self._outbox = self._outbox, {}
        # Of one home the order of entries counts: what is not synced waits for what came before it.
        ship: Ship | None = None
        for (node, sync), entries in outbox.items():
            if ship is None or ship.sync != sync or ship.entries != entries:
                ship = Ship(sync, entries)
            self._port.send(node, ship)  # the same for all homes, as a rule: it is encoded once

    def written(
        self,
        now: Now,
        partition: PartitionId,
        number: LeaseNumber,
        seq: int,
        then: Then,
        brought: Ranges = (),
        relied: Ranges = (),
    ) -> bool:
        """Entry `seq` is on this disk: call `then` once it is on enough others; False: not led any more."""
        stream = self._streams.get(partition)
        if stream is None or stream.number != number:
            return False
        self.filling.pacing.written(now.run)
        stream.durable = max(stream.durable, seq)
        stream.waiting.append(Waiting(seq, then, brought, relied))
        self._complete(now, stream)
        return True

    def _complete(self, now: Now, stream: Stream) -> None:
        if stream.unsealed is not None and stream.sealed(self._me):
            then, stream.unsealed = stream.unsealed, None
            then(now)
        while stream.waiting:
            waiting = stream.waiting[0]
            have = [f.node for f in stream.followers.values() if f.has(waiting, stream.waiting)]
            if stream.has(waiting):
                have.append(self._me)
            # With more, a list of which many homes are dead could not be rid of them: most homes are enough.
            least = 0 if stream.partition == ROSTER else self._least()
            if not have or not stream.record().has_quorum(have, least):
                return
            stream.waiting.popleft()
            waiting.then(now)

    def look_again(self, now: Now, partition: PartitionId) -> None:
        """This copy has got what it lacked: what relied on that may be complete."""
        stream = self._streams.get(partition)
        if stream is not None:
            self._complete(now, stream)

    def homes_changed(self, now: Now, partition: PartitionId) -> None:
        """The home set that counts is another: what waits may be complete."""
        stream = self._streams.get(partition)
        if stream is not None:
            self.refresh(stream)
            self._complete(now, stream)

    # --- bringing a home up to date ------------------------------------------------------------------

    def align(self, stream: Stream, node: NodeId) -> None:
        """What a home holds was merged: give it the small records, then everything that follows."""
        follower = stream.followers.get(node)
        if follower is None or follower.stage is not Stage.ASKED:
            return
        follower.stage = Stage.SEEN
        at = [0]

        def mark() -> None:
            at[0] = stream.seq
            follower.buffered = []

        def read(now: Now, rows: dict[bytes, bytes]) -> None:
            if self._streams.get(stream.partition) is not stream or follower.buffered is None:
                return
            if any(key.startswith(stream.keys.harm()[0]) for key in rows):
                # What this disk has lost must not be deleted elsewhere: all copies are merged again.
                self.comparing.unlike(stream.partition, self._me)
                return
            size = len(stream.keys.prefix)
            small = {key[size:]: record for key, record in rows.items()}
            n = stream.number.n
            self._port.send(node, Align(stream.partition, n, at[0], Blob(encode_rows(small))))
            entries, follower.buffered = follower.buffered, None
            follower.stage = Stage.ALIGNING
            follower.aligned_at = at[0]
            follower.asked_at = now.run
            if entries:
                self._port.send(node, Ship(True, entries))

        self._port.boundary(small_ranges(stream.keys), read, mark)

    def hear(
        self, now: Now, sender: NodeId, message: Aligned | Compared | Filled | Shipped | Unaligned
    ) -> None:
        """Take in what a home that follows says.  Errors: ProtocolError."""
        match message:
            case Aligned():
                self.on_aligned(now, sender, message)
            case Compared():
                self.on_compared(sender, message)
            case Filled():
                self.on_filled(now, sender, message)
            case Shipped():
                self.on_shipped(now, sender, message)
            case Unaligned():
                self.on_unaligned(sender, message.partition, message.n)

    def on_aligned(self, now: Now, sender: NodeId, aligned: Aligned) -> None:
        """A home follows now.  Errors: ProtocolError."""
        stream = self.find(aligned.partition, aligned.n)
        follower = None if stream is None else stream.followers.get(sender)
        if stream is None or follower is None or follower.stage is not Stage.ALIGNING:
            return
        if aligned.seq != follower.aligned_at:
            return  # an earlier alignment, which was given up
        follower.aligned(aligned.seq, decode_gaps(aligned.gaps))
        self._complete(now, stream)
        self.filling.fill(now, stream, follower)

    def on_shipped(self, now: Now, sender: NodeId, shipped: Shipped) -> None:
        """A home has entries, on disk if `sync`."""
        for partition, n, seq in shipped.entries:
            stream = self.find(partition, n)
            follower = None if stream is None else stream.followers.get(sender)
            if stream is None or follower is None or follower.stage is Stage.ASKED:
                continue
            while follower.sizes and follower.sizes[0][0] <= seq:
                follower.under_way -= follower.sizes.popleft()[1]
            if shipped.sync and follower.stage is Stage.FOLLOWING:
                follower.confirm(seq)
                self._complete(now, stream)

    def on_compared(self, sender: NodeId, compared: Compared) -> None:
        """A home says whether it has this node's small records."""
        stream = self.find(compared.partition, compared.n)
        if stream is not None:
            self.comparing.on_compared(stream, sender, compared)

    def on_unaligned(self, sender: NodeId, partition: PartitionId, n: int) -> None:
        """A home does not follow so far."""
        stream = self.find(partition, n)
        follower = None if stream is None else stream.followers.get(sender)
        if follower is not None:
            follower.begin_again()

    def gone(self, node: NodeId) -> None:
        """The connection to a home broke: what was under way may be lost."""
        for stream in self._streams.values():
            follower = stream.followers.get(node)
            if follower is not None:
                follower.begin_again()

    def tick(self, now: Now, reachable: Callable[[NodeId], bool]) -> None:
        """Ask the homes that do not follow what they hold, again and again; go on filling gaps."""
        for stream in self._streams.values():
            for follower in stream.followers.values():
                if follower.stage is Stage.FOLLOWING:
                    if follower.gaps:
                        self.filling.fill(now, stream, follower)
                    continue
                late = now.run - follower.asked_at >= ASK_AGAIN
                if follower.stage is Stage.ASKED and late and reachable(follower.node):
                    follower.asked_at = now.run
                    self._port.send(follower.node, Inspect(stream.partition, stream.number.n))
                elif follower.stage is Stage.ALIGNING and now.run - follower.asked_at > 20 * ASK_AGAIN:
                    follower.begin_again()
        self.comparing.tick(now)

    # --- filling the gaps of a home ------------------------------------------------------------------

    def on_fill(self, stream: Stream, sender: NodeId, fill: Fill) -> bool:
        """A home sent what it holds of a range: it lacks the rest.  Tell whether it lacks something."""
        missing = RangeSet([(fill.low, fill.high)])
        for batch in fill.batches:
            missing.remove(batch.first, batch.first + read_batch_head(batch.record)[1])
        follower = stream.followers.get(sender)
        if follower is None or follower.stage is not Stage.FOLLOWING or not missing.size:
            return False
        follower.lack({fill.log: missing})
        return True

    def spread(self, partition: PartitionId, ranges: Ranges) -> bool:
        """Tell whether messages are on as many disks as a write needs."""
        stream = self._streams.get(partition)
        return stream is not None and spread(stream, self._me, ranges, self._least())

    def whole(self, partition: PartitionId, owed: Gaps) -> bool:
        """Tell whether as many homes as a write needs have everything that there is, but for what is owed."""
        stream = self._streams.get(partition)
        return stream is not None and whole(stream, self._me, owed, self._least())

    def nowhere(self, partition: PartitionId, ranges: Ranges) -> Ranges:
        """Return which of these messages all homes lack, all following: they do not exist any more."""
        stream = self._streams.get(partition)
        return () if stream is None else nowhere(stream, ranges)

    def unshown(self, partition: PartitionId, gaps: Gaps) -> Gaps:
        """Return what of the leader's gaps no home has to which it may have been written."""
        stream = self._streams.get(partition)
        return {} if stream is None else unshown(stream, gaps, self._least())

    def on_filled(self, now: Now, sender: NodeId, filled: Filled) -> None:
        """A home has a page on disk."""
        stream = self.find(filled.partition, filled.n)
        follower = None if stream is None else stream.followers.get(sender)
        self.filling.ended(now, filled.partition, sender)
        if stream is None or follower is None:
            return
        follower.filling = False
        missing = follower.gaps.get(filled.log)
        if missing is not None:
            missing.remove(filled.low, filled.high)
            if not missing.size:
                del follower.gaps[filled.log]
            self._complete(now, stream)
        self.filling.fill(now, stream, follower)
        self.filling.go_on(now)
