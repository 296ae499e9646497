"""The copies of partitions that this node holds for others to lead.

    UNALIGNED ──Inspect──> shows a Summary ──Align──> ALIGNED ──Ship, Ship, …
                   └── any entry out of turn: Unaligned, and the leader begins again

An aligned copy is the leader's, record by record, but for its gaps: messages that the leader has and this
copy lacks so far.  Entries are physical (keys and records), so that a copy that comes to lead is opened like
after a restart.  Whoever holds a lower lease number than was promised is refused (L6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dmqnode.clock import Now
from dmqnode.comparing import digest_of
from dmqnode.copying import (
    LACK,
    VOID,
    align_rows,
    decode_ops,
    delete_stale,
    delete_void,
    put_batch,
    read_batches,
    split_own,
)
from dmqnode.grants import Grants
from dmqnode.homesets import NO_LEASE, LeaseNumber
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.keys import PartitionKeys
from dmqnode.leaving import Leaving
from dmqnode.messages import Blob, Message
from dmqnode.peer_messages import (
    Align,
    Aligned,
    BatchRecord,
    Compare,
    Compared,
    Denied,
    Dropped,
    Entry,
    Fetch,
    Fill,
    Filled,
    Inspect,
    Ship,
    Shipped,
    Summary,
    Unaligned,
)
from dmqnode.port import Port
from dmqnode.ranges import RangeSet
from dmqnode.records import BATCH_HEAD, read_batch_head
from dmqnode.smallrows import (
    Gaps,
    Stale,
    decode_rows,
    describe,
    encode_gaps,
    encode_rows,
    encode_stamp,
    gaps_key,
    own_ranges,
    small_ranges,
    stale_key,
    stamp_key,
)
from storage.ops import WriteBatch

MAX_WAITING = 4096
"""Entries that wait for an alignment; one more, and the copy begins again."""


@dataclass(slots=True)
class Copy:
    """What is in memory of one partition's copy: nothing that grows with the backlog."""

    keys: PartitionKeys
    lease: LeaseNumber = NO_LEASE
    """The lease that it is aligned with, or being aligned."""
    seq: int = 0
    """The last entry that it took in."""
    aligned: bool = False
    awaits: Align | Compare | None = None
    """What its records are about to be read for, as they are: entries wait.  Of two that come at once the
    earlier is not answered: it knows nothing of the entries between them."""
    gaps: Gaps = field(default_factory=dict)
    stale: Stale = field(default_factory=dict)
    """What is dead and being deleted."""
    deleting: int = 0
    """How many deletions are under way: with the last of them the note of what is dead goes."""
    waiting: list[Entry] = field(default_factory=list)


class Copies:
    """All copies of this node.

    Arguments:
        grants: what this node has promised; entries of lower leases are refused.
        port: to the rest of the node.
    """

    def __init__(self, grants: Grants, port: Port) -> None:
        self._grants = grants
        self._port = port
        self.deleted: Callable[[PartitionId], bool] = lambda partition: False
        """Whether the queue of a partition was deleted: nothing of it is written any more."""
        self.by_partition: dict[PartitionId, Copy] = {}
        self._leaving = Leaving(port)
        self._confirmed: dict[tuple[NodeId, bool], list[tuple[PartitionId, int, int]]] = {}

    def ready(self, partition: PartitionId, number: LeaseNumber, mark: int) -> bool:
        """Tell whether the copy has on disk what the holder of lease `number` told it, up to `mark` (H3)."""
        copy = self.by_partition.get(partition)
        return copy is not None and copy.aligned and copy.lease == number and copy.seq >= mark

    def find(self, partition: PartitionId) -> Copy | None:
        """Return the copy of a partition that was in use since the start."""
        return self.by_partition.get(partition)

    def adopt(self, partition: PartitionId, lease: LeaseNumber, gaps: Gaps) -> Copy:
        """This node leads now: its copy is the one that others follow."""
        copy = self.copy_of(partition)
        copy.lease, copy.seq, copy.gaps = lease, 0, gaps
        copy.aligned, copy.awaits, copy.waiting = True, None, []
        return copy

    def leave(self, partition: PartitionId) -> None:
        """This node leads no more: the copy follows nobody until it is aligned again."""
        copy = self.by_partition.get(partition)
        if copy is not None:
            copy.aligned = False

    def delete(self, now: Now, partition: PartitionId, stale: Stale, dead: Stale) -> None:
        """Delete what died while this copy did not follow; it is on disk that this is to be done.

        Arguments:
            dead: all that is dead; a batch is deleted once every message of it is.
        """
        if not stale:
            return
        copy = self.copy_of(partition)
        copy.stale = stale
        copy.deleting += 1
        self._port.read(now, delete_stale(copy.keys, stale, dead, self._port), partial(self._deleted, copy))

    def _deleted(self, copy: Copy, now: Now, result: None) -> None:
        copy.deleting -= 1
        if not copy.deleting:
            copy.stale = {}
            ops = WriteBatch()
            ops.delete(stale_key(copy.keys))
            self._port.write(ops, lambda now: None)

    def _void(self, copy: Copy, void: Stale, ops: WriteBatch) -> None:
        """The leader says what died that it does not hold: delete it once that is on disk."""
        stale = {log: RangeSet(died) for log, died in copy.stale.items()}
        for log, died in void.items():
            for low, high in died:
                stale.setdefault(log, RangeSet()).add(low, high)
                self._close_gap(copy, log, low, high, ops)
        copy.stale = stale
        copy.deleting += 1
        ops.put(stale_key(copy.keys), encode_gaps(stale))

    # --- the crank -----------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a leader's message; tell whether it was one.  Errors: ProtocolError."""
        match message:
            case Inspect():
                self._inspect(now, sender, message)
            case Align():
                self._align(now, sender, message)
            case Ship():
                for entry in message.entries:
                    self._take_entry(now, sender, entry, sync=message.sync)
            case Compare():
                self._compare(now, sender, message)
            case Fetch():
                self._fetch(now, sender, message)
            case Dropped():
                self._dropped(now, sender, message)
            case _:
                return False
        return True

    def flush(self) -> None:
        """Send the confirmations that have gathered: one message per leader."""
        confirmed, self._confirmed = self._confirmed, {}
        for (node, sync), entries in confirmed.items():
            self._port.send(node, Shipped(entries, sync))

    def copy_of(self, partition: PartitionId) -> Copy:
        """Return the copy of a partition of which something is here, or about to be."""
        copy = self.by_partition.get(partition)
        if copy is None:
            copy = self.by_partition[partition] = Copy(PartitionKeys.of(partition))
        return copy

    def _refused(self, sender: NodeId, partition: PartitionId, n: int) -> bool:
        """Refuse a lease below what this node has promised (L6), and what is for a copy that is deleted."""
        if self.deleted(partition) or partition in self._leaving:
            return True
        promise = self._grants.find(partition)
        if promise is None or promise.highest <= LeaseNumber(n, sender):
            return False
        highest = promise.highest
        self._port.send(sender, Denied(partition, n, 0, highest.n, highest.node, promise.holder))
        return True

    # --- what the copy holds -------------------------------------------------------------------------

    def _inspect(self, now: Now, sender: NodeId, inspect: Inspect) -> None:
        partition, number = inspect.partition, LeaseNumber(inspect.n, sender)
        if self._refused(sender, partition, inspect.n):
            return
        copy = self.copy_of(partition)
        copy.aligned, copy.awaits, copy.waiting = False, None, []

        def shown(now: Now, found: dict[bytes, bytes]) -> None:
            (n, node), seq = (own := split_own(copy.keys, found)).stamp
            copy.gaps = own.gaps
            self._port.send(
                sender,
                Summary(
                    partition,
                    inspect.n,
                    n,
                    node,
                    seq,
                    Blob(encode_gaps(own.gaps)),
                    Blob(encode_rows(own.rows)),
                ),
            )

        # From here on lower leases are refused, over a restart too: what is shown is final for them.
        ops = self._grants.promise_at_least(partition, number)
        self._port.write(ops, lambda now: None)
        self._port.boundary(own_ranges(copy.keys), shown)

    # --- becoming the leader's copy ------------------------------------------------------------------

    def _align(self, now: Now, sender: NodeId, align: Align) -> None:
        partition, number = align.partition, LeaseNumber(align.n, sender)
        if self._refused(sender, partition, align.n):
            return
        rows = decode_rows(align.rows)
        describe(rows)  # what cannot be read must not reach the disk
        copy = self.copy_of(partition)
        copy.lease, copy.seq, copy.aligned, copy.awaits, copy.waiting = number, align.seq, False, align, []

        def found_own(now: Now, found: dict[bytes, bytes]) -> None:
            if copy.awaits is not align or self._refused(sender, partition, align.n):
                return
            ops, copy.gaps, stale, dead = align_rows(copy.keys, split_own(copy.keys, found), rows)
            ops.put(stamp_key(copy.keys), encode_stamp((number, align.seq)))
            copy.aligned, copy.awaits = True, None
            encoded = Blob(encode_gaps(copy.gaps))
            answer = Aligned(partition, align.n, align.seq, encoded)
            self._port.write(ops, lambda now: self._port.send(sender, answer))
            self.delete(now, partition, stale, dead)
            self._take_waiting(now, copy, sender)

        self._port.boundary(own_ranges(copy.keys), found_own)

    def _take_waiting(self, now: Now, copy: Copy, sender: NodeId) -> None:
        waiting, copy.waiting = copy.waiting, []
        for entry in waiting:
            self._take_entry(now, sender, entry, sync=True)

    # --- following -----------------------------------------------------------------------------------

    def _take_entry(self, now: Now, sender: NodeId, entry: Entry, *, sync: bool) -> None:
        partition, number = entry.partition, LeaseNumber(entry.n, sender)
        if self._refused(sender, partition, entry.n):
            return
        copy = self.by_partition.get(partition)
        waits = copy is not None and copy.awaits is not None and copy.lease == number
        if copy is not None and waits and len(copy.waiting) < MAX_WAITING:
            copy.waiting.append(entry)
            return
        if copy is None or not copy.aligned or copy.lease != number or entry.seq > copy.seq + 1:
            if copy is not None:
                copy.aligned, copy.awaits = False, None
            self._port.send(sender, Unaligned(partition, entry.n))
            return
        if entry.seq <= copy.seq:
            return  # it came twice
        ops, void = self._read_ops(copy, entry.ops)
        copy.seq = entry.seq
        ops.put(stamp_key(copy.keys), encode_stamp((number, entry.seq)))
        mark = (partition, entry.n, entry.seq)

        def written(now: Now) -> None:
            self._confirmed.setdefault((sender, sync), []).append(mark)
            if void:
                self._port.read(now, delete_void(copy.keys, void, self._port), partial(self._deleted, copy))

        if void:
            self._void(copy, void, ops)
        self._port.write(ops, written, sync=sync)

    def _read_ops(self, copy: Copy, data: bytes) -> tuple[WriteBatch, Stale]:
        """Read an entry's writes, and what is to be deleted if it is here.  Errors: ProtocolError.

        What the entry brings, or calls dead, is no gap any more.
        """
        ops, void = WriteBatch(), Stale()
        for key, record in decode_ops(data):
            if record is None:
                ops.delete(copy.keys.prefix + key)
                continue
            if key[:1] == LACK:
                missing = copy.gaps.setdefault(LogId(key[1:]), RangeSet())
                for low, high in RangeSet.decode(record):
                    missing.add(low, high)
                ops.put(gaps_key(copy.keys), encode_gaps(copy.gaps))
                continue
            if key[:1] == VOID:
                void[LogId(key[1:])] = RangeSet.decode(record)
                continue
            ops.put(copy.keys.prefix + key, record)
            if copy.gaps and key[:1] == b"b" and len(record) > BATCH_HEAD:
                log, first = LogId(key[1:-8]), int.from_bytes(key[-8:], "big")
                self._close_gap(copy, log, first, first + read_batch_head(record)[1], ops)
            elif copy.gaps and key[:1] == b"d":
                log = LogId(key[1:-4])
                for low, high in RangeSet.decode(record):
                    self._close_gap(copy, log, low, high, ops)
        return ops, void

    def _close_gap(self, copy: Copy, log: LogId, low: int, high: int, ops: WriteBatch) -> None:
        missing = copy.gaps.get(log)
        if missing is not None and missing.remove(low, high):
            if not missing.size:
                del copy.gaps[log]
            ops.put(gaps_key(copy.keys), encode_gaps(copy.gaps))

    def fill(self, now: Now, sender: NodeId, fill: Fill) -> None:
        """Take in batches that this copy lacked, from its leader."""
        copy = self.by_partition.get(fill.partition)
        if self._refused(sender, fill.partition, fill.n):
            return
        if copy is None or not copy.aligned or copy.lease != LeaseNumber(fill.n, sender):
            self._port.send(sender, Unaligned(fill.partition, fill.n))
            return
        ops = WriteBatch()
        for batch in fill.batches:
            put_batch(copy.keys, fill.log, batch, ops)
        self._close_gap(copy, fill.log, fill.low, fill.high, ops)
        answer = Filled(fill.partition, fill.n, fill.log, fill.low, fill.high)
        self._port.write(ops, lambda now: self._port.send(sender, answer))

    def _compare(self, now: Now, sender: NodeId, compare: Compare) -> None:
        """Say what the small records are at the entry that was taken in last."""
        copy = self.by_partition.get(compare.partition)
        at = (LeaseNumber(compare.n, sender), compare.seq)
        if copy is None or not copy.aligned or copy.awaits is not None or (copy.lease, copy.seq) != at:
            return
        copy.awaits = compare

        def mark() -> None:
            if copy.awaits is compare:
                copy.awaits = None
                self._take_waiting(now, copy, sender)

        def read(now: Now, rows: dict[bytes, bytes]) -> None:
            self._port.send(sender, Compared(compare.partition, compare.n, compare.seq, digest_of(rows)))

        self._port.boundary(small_ranges(copy.keys), read, mark)

    # --- giving back ---------------------------------------------------------------------------------

    def _fetch(self, now: Now, sender: NodeId, fetch: Fetch) -> None:
        """The leader lacks batches that this copy holds."""
        if self._refused(sender, fetch.partition, fetch.n):
            return

        def found(now: Now, result: tuple[list[BatchRecord], int]) -> None:
            batches, high = result
            self._port.send(sender, Fill(fetch.partition, fetch.n, fetch.log, fetch.low, high, batches))

        keys = PartitionKeys.of(fetch.partition)
        self._port.read(now, read_batches(keys, fetch.log, fetch.low, fetch.high), found)

    # --- leaving -------------------------------------------------------------------------------------

    def _dropped(self, now: Now, sender: NodeId, dropped: Dropped) -> None:
        """This node is no home any more, and nobody needs its copy: delete it, keep the promise (H4)."""
        if self._refused(sender, dropped.partition, dropped.n):
            return
        copy = self.by_partition.pop(dropped.partition, None)
        if copy is not None:
            copy.aligned, copy.awaits = False, None
        self._leaving.begin(now, dropped.partition)
