"""The granting side of leases: what one node has promised, to whom and until when.

    Claim ──> refuse while the lease of another runs, while this node has just started (L1), or if a higher
              number was seen ──> write number and home set record ──> Granted, with the claim's nonce (L2)
    Renew ──> compare the hash of the holder's list with that of the own table (L3)

What is on disk: per partition the highest lease number and the newest home set record.  Who holds a lease
and until when is forgotten in a crash; therefore nothing is granted for one lease period after a start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import cbor2

from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber, read_home_set
from dmqnode.ids import NODE_ID_SIZE, NodeId, PartitionId
from dmqnode.lease_effects import Persist, ToPeer
from dmqnode.peer_messages import Agreed, Claim, Committed, Denied, Granted, Propose, Release, Renew, Renewed
from dmqnode.renewals import PairSet
from storage.ops import WriteBatch

LEASE = 2.0
"""Seconds that a lease runs."""
RESERVED = 1.0
"""Seconds that a released lease is kept for the named successor."""
GRANTS = b"g"
"""The keys of promises: g, then the partition's id."""
GRANTS_END = b"h"
NOBODY = NodeId(b"")


class Promise:
    """What this node has promised about one partition."""

    __slots__ = ("highest", "holder", "record", "reserved", "until")

    def __init__(self, record: HomeSet, highest: LeaseNumber = NO_LEASE) -> None:
        self.highest = highest
        self.record = record
        self.holder = NOBODY
        self.until = -math.inf
        self.reserved = (NOBODY, -math.inf)

    def runs_for_other(self, node: NodeId, slow: float) -> bool:
        """Tell whether somebody else than `node` holds the lease, or is the only one who may take it."""
        if self.holder not in (NOBODY, node) and self.until > slow:
            return True
        successor, until = self.reserved
        return successor not in (NOBODY, node) and until > slow


class Grants:
    """Every promise of this node.

    Arguments:
        me: this node.
        silent_until: granter's time before which nothing is granted, unless this node is the only home (L1).
        ready: tells whether this node has on disk all that the leader with this lease number had told up to
            this mark (H3).
    """

    def __init__(
        self, me: NodeId, silent_until: float, ready: Callable[[PartitionId, LeaseNumber, int], bool]
    ) -> None:
        self._me = me
        self._silent_until = silent_until
        self.reform: Callable[[PartitionId, HomeSet], HomeSet] = lambda partition, record: record
        """Makes a new home set of one whose majority the roster has given up (M4)."""
        self.reduce: Callable[[HomeSet], HomeSet] = lambda record: record
        """Leaves a destroyed home out of a set whose majority does not answer, if that helps (M4)."""
        self.isolated = False
        """Whether no majority of the roster was heard for long: then nothing is granted (M3)."""
        self.few = True
        """Whether so few are members that none is forgotten unless somebody says so (M5)."""
        self._ready = ready
        self._promises: dict[PartitionId, Promise] = {}
        self._held_by: dict[NodeId, PairSet] = {}

    @staticmethod
    def silence(boot: int) -> float:
        """Return for how many seconds a node grants nothing after its start of this number (L1).

        What it granted before, at an earlier start, it does not know any more.
        """
        return LEASE if boot > 1 else 0.0

    # --- the table -----------------------------------------------------------------------------------

    def load(self, partition: PartitionId, record: bytes) -> None:
        """Take in what `encode` wrote before the restart."""
        n, node, home_set = cbor2.loads(record)
        self._promises[partition] = Promise(read_home_set(home_set), LeaseNumber(n, NodeId(node)))

    def promise(self, partition: PartitionId, record: HomeSet) -> Promise:
        """Return the promise about a partition; `record` is its first home set if it has none."""
        found = self._promises.get(partition)
        if found is None:
            found = self._promises[partition] = Promise(record)
        return found

    def form(self, partition: PartitionId, record: HomeSet) -> Promise:
        """Return the promise with which this node claims, of homes formed anew if they were given up (M4).

        Only who claims forms homes anew, after all members have said that they know no later ones
        (`orphans`): who only grants may have missed many changes, and goes by what it is shown.
        """
        found = self.promise(partition, record)
        smaller = self.reduce(found.record)
        found.record = self.reform(partition, smaller) if smaller is found.record else smaller
        return found

    def learn(self, partition: PartitionId, record: HomeSet) -> None:
        """Somebody shows a home set; one that is in force replaces an older one."""
        promise = self._promises.get(partition)
        if promise is not None and record.committed and record.newer_than(promise.record):
            promise.record = record

    def find(self, partition: PartitionId) -> Promise | None:
        """Return the promise about a partition, None if this node knows nothing of it."""
        return self._promises.get(partition)

    def __iter__(self) -> Iterator[tuple[PartitionId, Promise]]:
        return iter(self._promises.items())

    def save(self, partition: PartitionId) -> WriteBatch:
        """Return the write that makes a promise durable."""
        promise = self._promises[partition]
        ops = WriteBatch()
        fields = [promise.highest.n, promise.highest.node, promise.record.fields()]
        ops.put(GRANTS + partition, cbor2.dumps(fields))
        return ops

    def promise_at_least(self, partition: PartitionId, number: LeaseNumber) -> WriteBatch:
        """Promise nothing below `number` any more; return the write that makes this durable."""
        promise = self._promises.get(partition)
        if promise is None or promise.highest >= number:
            return WriteBatch()
        promise.highest = number
        self._give(partition, NOBODY, 0)
        return self.save(partition)

    def forget(self, partition: PartitionId) -> WriteBatch:
        """Return the write that removes a promise: the partition's queue is deleted."""
        self._give(partition, NOBODY, 0)
        self._promises.pop(partition, None)
        ops = WriteBatch()
        ops.delete(GRANTS + partition)
        return ops

    def _give(self, partition: PartitionId, holder: NodeId, n: int) -> None:
        promise = self._promises.get(partition)
        if promise is None:
            return
        if promise.holder != NOBODY:
            held = self._held_by[promise.holder]
            held.drop(partition)
            if not held:
                del self._held_by[promise.holder]
        promise.holder = holder
        if holder != NOBODY:
            self._held_by.setdefault(holder, PairSet()).put(partition, n)

    def accepts(self, partition: PartitionId, number: LeaseNumber) -> bool:
        """Tell whether a write in the name of lease `number` may be taken: no later one is promised (L6)."""
        promise = self._promises.get(partition)
        return promise is None or number >= promise.highest

    # --- claims --------------------------------------------------------------------------------------

    def on_claim(self, slow: float, sender: NodeId, claim: Claim) -> Persist | ToPeer:
        """Grant or deny.  Errors: ProtocolError."""
        shown = read_home_set(claim.record)
        number = LeaseNumber(claim.n, sender)
        promise = self.promise(claim.partition, shown)
        # Nobody else can hold what only this node grants, and last granted to itself.
        alone = promise.record.members == (self._me,) == (sender,) and promise.highest.node in (
            self._me,
            NO_LEASE.node,
        )
        if (
            (slow < self._silent_until and not alone)
            or (self.isolated and not (alone and self.few))
            or number < promise.highest
            or (number == promise.highest and promise.holder != sender)
            or promise.runs_for_other(sender, slow)
        ):
            return ToPeer(sender, self._denial(claim.partition, promise, claim.n, claim.nonce, slow))
        self.learn(claim.partition, shown)
        promise.highest = number
        promise.until = slow + LEASE
        promise.reserved = (NOBODY, -math.inf)
        self._give(claim.partition, sender, claim.n)
        granted = Granted(claim.partition, claim.n, claim.nonce, promise.record.fields())
        return Persist(self.save(claim.partition), (ToPeer(sender, granted),))

    @staticmethod
    def _denial(partition: PartitionId, promise: Promise, n: int, nonce: int, slow: float) -> Denied:
        holder = promise.holder if promise.until > slow else NOBODY
        return Denied(partition, n, nonce, promise.highest.n, promise.highest.node, holder)

    # --- renewals ------------------------------------------------------------------------------------

    def on_renew(self, slow: float, sender: NodeId, renew: Renew) -> ToPeer:
        """Renew what this node itself knows to have granted, nothing else (L3)."""
        held = self._held_by.get(sender, PairSet())
        if self.isolated and not (self.few and sender == self._me):
            # What was granted before a restart is not in that list: the holder has to name what it renews.
            return ToPeer(sender, Renewed(renew.nonce, not renew.pairs, [p for p, _ in renew.pairs]))
        if not renew.pairs:
            if renew.digest != held.digest:
                return ToPeer(sender, Renewed(renew.nonce, True, []))
            for partition in held:
                self._promises[partition].until = slow + LEASE
            return ToPeer(sender, Renewed(renew.nonce, False, []))
        # What the holder does not name it has given up; it may be forgotten once it is over, not before:
        # the list may be older than the grant.
        named = {p for p, _ in renew.pairs}
        for partition in [p for p in held if p not in named and self._promises[p].until <= slow]:
            self._give(partition, NOBODY, 0)
        refused = [p for p, n in renew.pairs if not self._renew(slow, sender, p, n)]
        return ToPeer(sender, Renewed(renew.nonce, False, refused))

    def _renew(self, slow: float, sender: NodeId, partition: PartitionId, n: int) -> bool:
        promise = self._promises.get(partition)
        if promise is None or promise.highest != (n, sender):
            return False
        if promise.holder == NOBODY and promise.until == -math.inf:
            # Granted before a restart: the disk says that nobody was granted anything since.
            self._give(partition, sender, n)
        elif promise.holder != sender:
            return False
        promise.until = slow + LEASE
        return True

    def on_release(self, slow: float, sender: NodeId, release: Release) -> None:
        """The holder gives a lease up."""
        promise = self._promises.get(release.partition)
        if promise is None or promise.holder != sender or promise.highest != (release.n, sender):
            return
        promise.until = slow
        self._give(release.partition, NOBODY, 0)
        if len(release.successor) == NODE_ID_SIZE:
            promise.reserved = (NodeId(release.successor), slow + RESERVED)

    # --- home sets -----------------------------------------------------------------------------------

    def on_propose(self, slow: float, sender: NodeId, propose: Propose) -> Persist | ToPeer | None:
        """Agree to a home set, which also grants the running lease (H3); None: not yet, ask again.

        Errors: ProtocolError.
        """
        record = read_home_set(propose.record)
        promise = self.promise(propose.partition, record)
        number = LeaseNumber(propose.n, sender)
        if number < promise.highest:
            return ToPeer(sender, self._denial(propose.partition, promise, propose.n, 0, slow))
        if promise.record.newer_than(record) and promise.record.age != record.age:
            return None
        if not self._ready(propose.partition, number, propose.mark):
            return None
        promise.highest = number
        promise.until = slow + LEASE
        self._give(propose.partition, sender, propose.n)
        if not (promise.record.age == record.age and promise.record.committed):
            promise.record = record
        agreed = Agreed(propose.partition, propose.n, record.fields())
        return Persist(self.save(propose.partition), (ToPeer(sender, agreed),))

    def on_committed(self, slow: float, sender: NodeId, committed: Committed) -> Persist | None:
        """Learn that a home set is in force; former homes keep it, too (H4).  Errors: ProtocolError."""
        record = read_home_set(committed.record)
        promise = self.promise(committed.partition, record)
        agreed = Agreed(committed.partition, committed.n, record.fields())
        number = LeaseNumber(committed.n, sender)
        if not promise.record.newer_than(record):
            promise.record = record
        if number >= promise.highest and self._me in record.new:
            # A home that has missed the proposal grants now, as it would have by agreeing.
            promise.highest = number
            promise.until = slow + LEASE
            self._give(committed.partition, sender, committed.n)
        elif record.lease > promise.highest:
            promise.highest = record.lease
            self._give(committed.partition, NOBODY, 0)
        return Persist(self.save(committed.partition), (ToPeer(sender, agreed),))
