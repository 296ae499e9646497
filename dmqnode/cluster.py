"""A node's part in its cluster: who leads what, and that everybody who should holds a copy.

Routes peer messages to the cores that decide (`leases`, `grants`, `copies`, `streams`, `takeover`), and does
what they want done.  It knows nothing of requests and messages; those who run the partitions are behind
`Hosting`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial

from dmqnode.clock import Now
from dmqnode.copies import Copies
from dmqnode.fetching import Fetching
from dmqnode.following import Stream
from dmqnode.grants import NOBODY, Grants
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.hosting import Hosting
from dmqnode.ids import NodeId, PartitionId
from dmqnode.lease_effects import Acquired, Denial, HomesChanged, Lost, Persist, Serving, ToPeer
from dmqnode.leaseclock import LeaseClock
from dmqnode.leases import Leases
from dmqnode.messages import Message
from dmqnode.peer_messages import (
    Aligned,
    Claim,
    Compared,
    Denied,
    Dropped,
    Fill,
    Filled,
    Release,
    Shipped,
    Summary,
    Unaligned,
)
from dmqnode.port import Port
from dmqnode.streams import Streams
from dmqnode.takeover import Takeovers

TICK = 0.25
"""Seconds between two looks at what should be done again."""
ROUNDING = 1e-4
DRAIN_TIMEOUT = 1.0
"""Seconds after which what is handed over is given up even if not everything is on the homes."""
BELIEVE = 1.0
"""Seconds for which this node does not claim what a home has said to have granted to another."""
REPAIR_EVERY = 1.0
"""Seconds between two looks at homes and gaps."""


class Cluster:
    """The cluster's cores of one node.

    Arguments:
        me: this node.
        clock: for leases; advanced by whoever calls.
        rng: for nonces and waiting.
        port: to the rest of the node.
        hosting: what runs the partitions led here.
        silent: seconds during which nothing is granted, after a restart (L1).
        least: returns W'.
        wanted: returns where a partition should be, as placement and the roster have it; empty: as it is.
        reachable: whether a node answers.
    """

    def __init__(
        self,
        me: NodeId,
        clock: LeaseClock,
        rng: random.Random,
        port: Port,
        hosting: Hosting,
        *,
        silent: float,
        least: Callable[[], int],
        wanted: Callable[[PartitionId], tuple[NodeId, ...]],
        reachable: Callable[[NodeId], bool],
    ) -> None:
        self.me = me
        self._clock = clock
        self._port = port
        self._hosting = hosting
        self._wanted = wanted
        self._reachable = reachable
        self.may_lead = reachable
        """Whether a node answers, and has for so long that it is not silent after a start (L1)."""
        self.may_claim: Callable[[PartitionId, HomeSet], bool] = lambda partition, first: True
        """Whether this node may come to lead anything: its clock is right (T1)."""
        self.grants = Grants(me, clock.slow + silent, self._ready)
        self.leases = Leases(me, self.grants, rng, self._mark)
        self.copies = Copies(self.grants, port)
        self.streams = Streams(me, port, least)
        self.streams.filling.unreadable, self.streams.comparing.unlike = hosting.unreadable, hosting.unlike
        self.takeovers = Takeovers(
            me,
            port,
            hosting,
            self.copies,
            self.streams,
            counted=self.leases.counted,
            merged=lambda partition, number: self.leases.merged(clock.fast, partition, number),
        )
        self.leaders: dict[PartitionId, NodeId] = {}
        """Who led each partition when last heard of."""
        self._next_tick = -math.inf
        self._next_repair = -math.inf
        self.draining: dict[PartitionId, tuple[NodeId, float]] = {}
        """To whom what is led here is being handed over, and until when at the latest."""
        self._told: dict[PartitionId, tuple[NodeId, float]] = {}
        """Who holds a lease as the homes say that have granted it, and until when to believe it."""
        self.outnumbered: dict[PartitionId, None] = {}
        """Partitions led here of which a home has promised a higher lease number."""
        self._fetching = Fetching(port, hosting)

    def _ready(self, partition: PartitionId, number: LeaseNumber, mark: int) -> bool:
        return number.node == self.me or self.copies.ready(partition, number, mark)

    def _mark(self, partition: PartitionId) -> int:
        lease = self.leases.held(self._clock.fast, partition)
        stream = None if lease is None else self.streams.find(partition, lease.number.n)
        return 0 if stream is None else stream.seq

    # --- questions -----------------------------------------------------------------------------------

    def leads(self, partition: PartitionId) -> bool:
        """Tell whether this node may deliver of a partition at this moment (P6)."""
        lease = self.leases.held(self._clock.fast, partition)
        return lease is not None and lease.serving

    def lease_left(self, partition: PartitionId) -> float:
        """Return for how many seconds more this node holds a partition's lease."""
        lease = self.leases.held(self._clock.fast, partition)
        return 0.0 if lease is None else lease.until - self._clock.fast

    def homes(self, partition: PartitionId, first: HomeSet) -> HomeSet:
        """Return the newest home set known of a partition; `first` is that of its queue's record (H5)."""
        promise = self.grants.find(partition)
        return first if promise is None or first.newer_than(promise.record) else promise.record

    def holder(self, partition: PartitionId) -> NodeId | None:
        """Return to whom this node, or another home that said so, has granted a lease that runs."""
        promise = self.grants.find(partition)
        if promise is not None and promise.holder != NOBODY and promise.until > self._clock.slow:
            return promise.holder
        told = self._told.get(partition)
        return told[0] if told is not None and told[1] > self._clock.fast else None

    def want(self, now: Now, partition: PartitionId, first: HomeSet, *, offered: bool = False) -> None:
        """Somebody asks for a partition that nobody is known to lead: claim it, if this is a home."""
        if self.may_claim(partition, first) and self.me in self.homes(partition, first).members:
            self.leases.want(self._clock.fast, partition, first, offered=offered)
            self._settle(now)

    # --- the crank -----------------------------------------------------------------------------------

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these cores.  Errors: ProtocolError."""
        known = (
            self.leases.receive(self._clock.fast, self._clock.slow, sender, message)
            or self.copies.receive(now, sender, message)
            or self._lead(now, sender, message)
        )
        if known:
            self._settle(now)
        if isinstance(message, Release) and message.successor == self.me:
            self._succeed(now, message.partition)
        elif isinstance(message, Denied):
            self._note_denial(now, message)
        elif isinstance(message, Claim) and self.leaders.get(message.partition) == sender:
            del self.leaders[message.partition]  # who claims does not lead, whatever was heard
        return known

    def _note_denial(self, now: Now, denied: Denied) -> None:
        """A home that has promised a higher number will not follow: take the lease anew, above that."""
        lease = self.leases.held(self._clock.fast, denied.partition)
        highest = LeaseNumber(denied.highest, NodeId(denied.highest_node))
        if lease is not None and lease.number.n == denied.n and highest > lease.number:
            self.outnumbered[denied.partition] = None
            if self.takeovers.waits(denied.partition) or self.streams.unsealed(denied.partition):
                self._claim_anew(now, denied.partition, lease.record)  # nobody answers to this number

    def _claim_anew(self, now: Now, partition: PartitionId, record: HomeSet) -> None:
        self.abandon(now, partition)
        self.want(now, partition, record)

    def _succeed(self, now: Now, partition: PartitionId) -> None:
        """Another gives a lease up to this node, which has everything: take it."""
        if (promise := self.grants.find(partition)) is not None:
            self.want(now, partition, promise.record, offered=True)

    def _lead(self, now: Now, sender: NodeId, message: Message) -> bool:
        match message:
            case Summary():
                self.takeovers.on_summary(now, sender, message)
            case Aligned() | Compared() | Filled() | Shipped() | Unaligned():
                self.streams.hear(now, sender, message)
            case Fill():
                if (stream := self.streams.find(message.partition, message.n)) is not None:
                    self._take_in(now, sender, stream, message)
                else:
                    self.copies.fill(now, sender, message)
            case _:
                return False
        return True

    def _take_in(self, now: Now, sender: NodeId, stream: Stream, fill: Fill) -> None:
        """What this copy lacked has come; ask on once it is in, or, if it was nothing, somebody else."""

        def brought(now: Now) -> None:
            self._fetching.go_on(now, sender, stream, fill)
            self._hosting.looked(now, sender, fill)

        if self.streams.on_fill(stream, sender, fill) and not fill.batches:
            brought(now)
            return
        self._hosting.take_in(now, fill, brought)

    def tick(self, now: Now) -> None:
        """Do what is due."""
        self.leases.tick(self._clock.fast)
        if now.run >= self._next_tick:
            self._next_tick = now.run + TICK
            for partition in [p for p, (_, end) in self.draining.items() if now.run >= end]:
                self._drained(now, partition)
            self._told = {p: told for p, told in self._told.items() if told[1] > self._clock.fast}
            for partition in self.takeovers.tick(now):
                self.leases.release(partition)
            self.streams.tick(now, self._reachable)
        self.streams.filling.go_on(now)
        if now.run >= self._next_repair:
            self._next_repair = now.run + REPAIR_EVERY
            self._repair(now)
        self._settle(now)

    def next_deadline(self, now: Now) -> float:
        """Return when `tick` must be called next (running time)."""
        busy = len(self.leases) or len(self.takeovers)
        lease = self.leases.next_deadline()
        # A little late rather than a rounding error too early, over and over.
        soon = math.inf if lease == math.inf else now.run + max(0.0, lease - self._clock.fast) + ROUNDING
        filled = self.streams.filling.next_deadline(now) + ROUNDING
        return min(soon, filled, self._next_tick if busy else math.inf)

    def gone(self, now: Now, node: NodeId) -> None:
        """The connection to a node broke."""
        self.streams.gone(node)
        self.leaders = {p: n for p, n in self.leaders.items() if n != node}
        self._settle(now)

    def _settle(self, now: Now) -> None:
        """Do what the leases want done, until they want nothing."""
        self.copies.flush()
        while effects := self.leases.take_effects():
            for effect in effects:
                match effect:
                    case ToPeer():
                        self._tell(effect.node, effect.message)
                    case Persist():
                        self._port.write(effect.ops, partial(self._send_all, effect.then))
                    case Acquired():
                        self.leaders.pop(effect.partition, None)
                        self.takeovers.begin(now, effect.partition, effect.number, effect.record)
                    case Serving():
                        self.leaders[effect.partition] = self.me
                        self._hosting.serve(now, effect.partition)
                        self._release_former(effect.partition)
                    case Lost():
                        self._lose(now, effect.partition)
                    case Denial():
                        if effect.holder not in (NOBODY, self.me):
                            self.leaders[effect.partition] = effect.holder
                            self._told[effect.partition] = (effect.holder, self._clock.fast + BELIEVE)
                    case HomesChanged():
                        self.streams.homes_changed(now, effect.partition)
                        self._release_former(effect.partition)

    def _tell(self, node: NodeId, message: Message) -> None:
        """Send a message; a claim that reaches nobody is as good as denied: two homes that each wait for the
        dead third, while neither grants to the other, would stand in each other's way again and again."""
        self._port.send(node, message)
        if isinstance(message, Claim) and not self._reachable(node):
            fast, slow = self._clock.fast, self._clock.slow
            denied = Denied(message.partition, message.n, message.nonce, 0, NOBODY, NOBODY)
            self.leases.receive(fast, slow, node, denied)

    def _send_all(self, messages: tuple[ToPeer, ...], now: Now) -> None:
        for node, message in messages:
            self._port.send(node, message)

    def _lose(self, now: Now, partition: PartitionId) -> None:
        if self.leaders.get(partition) == self.me:
            del self.leaders[partition]
        for known in (self.draining, self.outnumbered):
            known.pop(partition, None)
        self._fetching.leave(partition)
        self.takeovers.cancel(partition)
        self.copies.leave(partition)
        self._hosting.close_partition(now, partition, self.streams.close(partition))

    def abandon(self, now: Now, partition: PartitionId) -> None:
        """Give a partition up, whoever leads it then, if anybody need."""
        self.leases.release(partition)
        self._settle(now)

    def rest(self, now: Now, partitions: list[PartitionId]) -> bool:
        """Give up partitions that nobody uses, if all homes have everything; tell whether it was done."""
        for stream in map(self.streams.of, partitions):
            if stream is not None and (stream.missing_homes() or stream.waiting):
                return False
        for partition in partitions:
            self.leases.release(partition)
        self._settle(now)
        return True

    def leads_all(self) -> list[PartitionId]:
        """Return the partitions that this node leads."""
        return [stream.partition for stream in self.streams]

    def successor(self, partition: PartitionId) -> NodeId | None:
        """Return a home that has everything and could lead at once, the preferred first."""
        stream = self.streams.of(partition)
        if stream is None:
            return None
        complete = {f.node for f in stream.followers.values() if stream.complete(f)}
        return next((n for n in stream.record().new if n in complete and self.may_lead(n)), None)

    # --- moving --------------------------------------------------------------------------------------

    def _repair(self, now: Now) -> None:
        """See that every partition led here is where it should be, whole, and led by whom it should be."""
        for stream in self.streams:
            lease = self.leases.held(self._clock.fast, stream.partition)
            if lease is None or stream.partition in self.draining:
                continue
            outnumbered = stream.partition in self.outnumbered
            if not lease.serving:
                if outnumbered:
                    self._claim_anew(now, stream.partition, lease.record)
                continue
            self._fetching.fetch(now, stream)
            if outnumbered:
                self.hand_over(now, stream.partition, self.me)
            elif lease.proposal is None:
                self._move(now, stream, lease.record)

    def _move(self, now: Now, stream: Stream, record: HomeSet) -> None:
        wanted = self._wanted(stream.partition) or record.new
        complete = {f.node for f in stream.followers.values() if stream.complete(f)} | {self.me}
        to = wanted[0]
        self.streams.refresh(stream, wanted)  # who is not wanted any more follows no longer
        if set(wanted) != set(record.new):
            whole = stream.nothing_but_missing(stream.lacking(self._hosting.missing(stream.partition)))
            if whole and all(n in complete for n in wanted):
                self.leases.propose(self._clock.fast, stream.partition, wanted)
                return
            to = NOBODY
        if (to not in complete or not self.may_lead(to)) and self.me not in record.new:
            to = self.successor(stream.partition) or NOBODY  # what has moved off this node does not need it
        if to != self.me and to in complete and self.may_lead(to):
            self.hand_over(now, stream.partition, to)

    def hand_over(self, now: Now, partition: PartitionId, successor: NodeId) -> None:
        """Let `successor` lead, with the deliveries (N2)."""
        if partition in self.draining:
            return
        self.draining[partition] = (successor, now.run + DRAIN_TIMEOUT)
        self._hosting.drain(now, partition, lambda now: self._drained(now, partition))

    def _drained(self, now: Now, partition: PartitionId) -> None:
        """Everything is on the homes, or cannot get there: what is not there is unknown."""
        if (found := self.draining.pop(partition, None)) is not None:
            successor, _ = found
            if not self.may_lead(successor):  # who stops meanwhile, be it this node
                successor = self.successor(partition) or NOBODY
            self.leases.release(partition, successor)
            if successor != NOBODY:
                self.leaders[partition] = successor
            self._settle(now)

    def _release_former(self, partition: PartitionId) -> None:
        """Tell former homes that nobody needs their copies (C1): once the set is known complete without them,
        and when somebody comes to lead, for the last leader may be one of them, or not have got through."""
        lease = self.leases.held(self._clock.fast, partition)
        if lease is None or not lease.serving or not lease.record.committed or not lease.known:
            return
        if not self.streams.whole(partition, {}):
            return  # who has a copy asks again
        for node in [n for n in lease.record.old if n not in (*lease.record.new, self.me)]:
            self._port.send(node, Dropped(partition, lease.number.n))
