"""What a node has besides its broker when the cluster has other nodes: the cores, and how they are wired.

    client ──> Clustering.request ──> Fanout ──> FrontEnd ──┬── Broker.route (this node leads)
                                                            └── Forward ──> another node's Clustering
    peers  ──> Clustering.hear ──> Cluster (leases, copies, streams) · Rosters · Catalog · FrontEnd

It implements `Port`: messages to this node itself go round through `settle`, those to others wait in
`take_sent` for the shell.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from dmqnode.candidates import Candidates
from dmqnode.catalog import Catalog
from dmqnode.clock import Now
from dmqnode.cluster import Cluster
from dmqnode.crossings import Crossings
from dmqnode.debts import Debts
from dmqnode.fanout import Fanout
from dmqnode.following import Ranges
from dmqnode.frontend import FrontEnd
from dmqnode.homesets import HomeSet
from dmqnode.hosted import Hosted
from dmqnode.ids import NodeId, PartitionId, QueueId, partition_id
from dmqnode.keys import PartitionKeys
from dmqnode.leaseclock import LeaseClock, reading
from dmqnode.mender import Mender
from dmqnode.messages import Message, Step
from dmqnode.orphans import reduced, reform
from dmqnode.overview import Overview
from dmqnode.partition import Partition
from dmqnode.pending import Addition, Look, Shipment
from dmqnode.port import T, Then
from dmqnode.queue import Queue
from dmqnode.queues import Definition
from dmqnode.reads import Procedure
from dmqnode.requests import Requests
from dmqnode.roster import ROSTER, Roster, Rosters, quorum
from dmqnode.smallrows import encode_stamp, stamp_key
from dmqnode.walls import Walls
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker

LOOK_EVERY = 0.5
"""Seconds between two looks at who answers."""
MAX_ROUNDS = 100_000
"""Messages to itself that a node may work off in one step: more is a loop."""


class Clustering:
    """The cluster's side of one node.

    Arguments:
        broker: of the node.
        roster: as this node has it on disk.
        rng: for nonces and waiting.
        silent: seconds during which nothing is granted (L1): this node may have promised before it stopped.
    """

    def __init__(
        self, broker: Broker, roster: Roster, rng: random.Random, now: Now, *, silent: float
    ) -> None:
        self._broker = broker
        self.me = broker.identity.node
        config = broker.config
        self._replicas, self._write_quorum = config.replicas, config.write_quorum
        self._clock = LeaseClock(reading(now))
        self._passed = now
        self.leaving = False
        """Whether this node stops: of what it delivered now its homes might not hear, if they stop, too."""
        self.linked: dict[NodeId, float] = {}
        """Nodes that this one can talk to, since when."""
        self._sent: list[tuple[NodeId, Message]] = []
        self._loop: deque[Message] = deque()
        self._entries: dict[PartitionId, list[Addition]] = {}
        self._look_at = now.run
        self._later: list[tuple[float, int, Then]] = []
        self._tie = count()
        self.rosters = Rosters(
            roster, self, self.replicate, self._roster_changed, config.replicas, config.dead_after
        )
        self.hosted = Hosted(broker, self)
        self.cluster = Cluster(
            self.me,
            self._clock,
            rng,
            self,
            self.hosted,
            silent=silent,
            least=self.least,
            wanted=lambda partition: self.mender.strays.wanted(partition),
            reachable=self.reachable,
        )
        self.catalog = Catalog(
            self.me,
            self,
            peers=lambda: list(self.linked),
            least=self.least,
            changed=broker.registry.learn,
            first_question=broker.identity.first_question,
        )
        self.cluster.grants.reform = lambda id_, old: reform(self.rosters.current, old, self.wanted(id_))
        self.cluster.grants.reduce = lambda record: reduced(self.rosters.current, record, self.reachable)
        self.cluster.copies.deleted = lambda partition: self.catalog.deleted(QueueId(partition[:8]))
        self.candidates = Candidates(broker, self)
        self.cluster.may_lead = self.candidates.may_lead
        self.front = FrontEnd(broker, self)
        self.fanout = Fanout(broker, self)
        self.requests = Requests(broker, self)
        self.debts = Debts(broker, self)
        self.overview = Overview(broker, self)
        self.crossings = Crossings(broker, self)
        self.mender = Mender(broker, self)
        self.walls = Walls(self, lambda: self.linked)
        self.cluster.may_claim = self.mender.orphans.may_claim
        self.catalog.trusted = lambda: not self.walls.silent
        self.debts.load(now)

    # --- what is known -------------------------------------------------------------------------------

    def least(self) -> int:
        """Return W', the copies that a write needs."""
        return quorum(self.rosters.current, self._replicas, self._write_quorum)

    def wanted(self, partition: PartitionId) -> tuple[NodeId, ...]:
        """Return where a partition should be, as placement and the roster have it."""
        return self.rosters.homes(partition)

    def reachable(self, node: NodeId) -> bool:
        """Tell whether a node answers, as far as this one can tell."""
        return node == self.me or node in self.linked

    def placed(self, definition: Definition) -> Definition:
        """Return a new queue's definition with the homes of its partitions (H5)."""
        indexes = range(definition.settings.partitions)
        return replace(definition, homes=tuple(self.wanted(partition_id(definition.id, i)) for i in indexes))

    def first_homes(self, definition: Definition, index: int) -> HomeSet:
        """Return the home set with which a partition began (H5), or begins anew (M4)."""
        homes = definition.homes[index] if index < len(definition.homes) else (self.me,)
        return self.mender.orphans.homes(partition_id(definition.id, index), HomeSet.first(homes))

    def _roster_changed(self, now: Now, roster: Roster) -> None:
        self.mender.changed()
        for node in [n for n in self.linked if roster.find(n) is None]:
            self.later(now, 0.0, partial(self._part, node))

    def _part(self, node: NodeId, now: Now) -> None:
        """A member is none any more."""
        if self.rosters.current.find(node) is None:
            self.gone(now, node)

    def delivers(self, shard: Queue) -> bool:
        """Tell whether this node may hand out messages of a shard at this moment (L4, P6)."""
        self.let_time_pass(self._broker.now)
        return not (self.walls.silent or self.leaving) and all(
            self.cluster.leads(p.id) and self.hosted.serves(p.id) for p in shard.partitions
        )

    def leader_of(self, partition: PartitionId) -> NodeId | None:
        """Return who leads a partition, as far as this node knows."""
        return self.cluster.leaders.get(partition)

    def find_leader(self, now: Now, definition: Definition, partition: PartitionId) -> None:
        """Make somebody lead a partition, and get to know who."""
        index = int.from_bytes(partition[8:], "big")
        if index < definition.settings.partitions:
            self.crossings.nudge(now, definition, index)

    def later(self, now: Now, seconds: float, then: Then) -> None:
        """Call `then` in so many seconds."""
        heapq.heappush(self._later, (now.run + seconds, next(self._tie), then))

    @property
    def stopping(self) -> bool:
        """Whether this node refuses what is new."""
        return self._broker.stopping

    # --- Port ----------------------------------------------------------------------------------------

    def send(self, node: NodeId, message: Message) -> None:
        """Send a message to a node, this one included."""
        if node == self.me:
            self._loop.append(message)
        elif node in self.linked:
            self._sent.append((node, message))

    def write(self, ops: WriteBatch, then: Then, *, sync: bool = True) -> None:
        """Write with the next group."""
        self._broker.write_meta(ops, then, sync=sync)

    def boundary(
        self,
        ranges: tuple[tuple[bytes, bytes], ...],
        then: Callable[[Now, dict[bytes, bytes]], None],
        mark: Callable[[], None] = lambda: None,
    ) -> None:
        """Read right behind the next write group."""
        self._broker.look(Look(ranges, then, mark))

    def read(self, now: Now, procedure: Procedure[T], then: Callable[[Now, T], None]) -> None:
        """Run a procedure of reads."""
        self._broker.reads.start(now, procedure, then)

    def take_sent(self) -> list[tuple[NodeId, Message]]:
        """Return, once, the messages that are to go to other nodes."""
        sent, self._sent = self._sent, []
        return sent

    def replicate(
        self,
        now: Now,
        partition: PartitionId,
        ops: WriteBatch,
        then: Then,
        brought: Ranges = (),
        relied: Ranges = (),
    ) -> bool:
        """Write to a partition led here; `then` is called once enough homes have it.  False: not led.

        Arguments:
            brought: messages that `ops` writes.
            relied: messages that enough homes must have, too.
        """
        if not self.cluster.leads(partition):
            return False
        self._entries.setdefault(partition, []).append(Addition(ops, then, brought, relied))
        self._broker.write_meta(WriteBatch(), lambda now: None)
        return True

    # --- links ---------------------------------------------------------------------------------------

    def met(self, now: Now, node: NodeId) -> None:
        """This node can talk to another, and is heard by it."""
        self.advance(now)
        self.linked[node] = now.run
        self.candidates.met(node)
        self.walls.met(now, node)
        self.mender.came_back()
        self.catalog.met(node)
        self.rosters.met(node)
        self.settle(now)

    def gone(self, now: Now, node: NodeId) -> None:
        """The connection to a node broke; what was under way may be lost."""
        self.candidates.gone(node)
        if self.linked.pop(node, None) is not None:
            self.mender.changed()
            self.advance(now)
            self.cluster.gone(now, node)
            self.front.gone(now, node)
            self.settle(now)

    def hear(self, now: Now, sender: NodeId, message: Message) -> None:
        """Take in a message of another node.  Errors: ProtocolError."""
        self.advance(now)
        self._hear(now, sender, message)
        self.settle(now)

    def _hear(self, now: Now, sender: NodeId, message: Message) -> None:
        _ = (
            self.cluster.receive(now, sender, message)
            or self.front.receive(now, sender, message)
            or self.rosters.receive(now, sender, message)
            or self.catalog.receive(now, sender, message)
            or self.debts.receive(now, sender, message)
            or self.overview.receive(now, sender, message)
            or self.walls.receive(now, sender, message)
            or self.mender.receive(now, sender, message)
            or self.candidates.receive(sender, message)
        )

    def settle(self, now: Now) -> None:
        """Work off what this node says to itself."""
        rounds = 0
        while self._loop:
            rounds += 1
            assert rounds < MAX_ROUNDS, "a node talks to itself without end"
            self._hear(now, self.me, self._loop.popleft())
        self.cluster.copies.flush()

    # --- write groups --------------------------------------------------------------------------------

    def collect(
        self, now: Now, partitions: Iterable[Partition], batch: WriteBatch, *, sync: bool
    ) -> list[Shipment]:
        """Put into `batch` what the partitions led here want written, and ship it to their homes."""
        out: list[Shipment] = []
        entries, self._entries = self._entries, {}
        for partition in partitions:
            ops = WriteBatch()
            collected = partition.collect(now, ops)
            out += self._ship(partition.id, ops, entries.pop(partition.id, []), batch, collected, sync=sync)
        for id_, extra in entries.items():
            out += self._ship(id_, WriteBatch(), extra, batch, None, sync=sync)
        self.cluster.streams.flush()
        return out

    def _ship(
        self,
        id_: PartitionId,
        ops: WriteBatch,
        extra: list[Addition],
        batch: WriteBatch,
        collected: Any,
        *,
        sync: bool,
    ) -> list[Shipment]:
        for more in extra:
            ops.extend(more.ops)
        lacks, voids = ({}, {}) if collected is None else collected.partition.elsewhere.take()
        brought = tuple([b for more in extra for b in more.brought])
        relied = tuple([r for more in extra for r in more.relied])
        tell = self.cluster.streams.collected
        shipped = tell(id_, ops, sync=sync, lacks=lacks, brought=brought, voids=voids)
        if shipped is None:
            return []  # the lease ended meanwhile: nothing of this may be written
        batch.extend(ops)
        number, seq = shipped
        # Its own copy has followed so far, too, and counts as such for whoever leads next.
        batch.put(stamp_key(PartitionKeys.of(id_)), encode_stamp(shipped))
        then = tuple(more.then for more in extra)
        shipment = Shipment(id_, number, seq, collected, then, brought, relied)
        self.hosted.shipped(shipment)
        return [shipment]

    def written(self, now: Now, shipment: Shipment) -> None:
        """A write group is on this disk."""
        self.hosted.written(now, shipment.partition, shipment.number, shipment.seq)

    # --- time ----------------------------------------------------------------------------------------

    def advance(self, now: Now) -> None:
        """Let the lease clocks go on, and see whether this node's clock is right."""
        self.let_time_pass(now)
        if self.walls.judge(now):
            self.hosted.judged(now)

    def let_time_pass(self, now: Now) -> None:
        """Let the lease clocks go on."""
        self._broker.now = now
        if now is not self._passed:
            self._passed = now
            self.cluster.grants.isolated |= self.rosters.hearing.overslept(now)
            self._clock.advance(reading(now))

    def tick(self, now: Now) -> None:
        """Do what is due."""
        self.advance(now)
        self.cluster.tick(now)
        self.front.tick(now)
        self.catalog.tick(now)
        self.debts.tick(now)
        while self._later and self._later[0][0] <= now.run:
            heapq.heappop(self._later)[2](now)
        if now.run >= self._look_at:
            self._look_at = now.run + LOOK_EVERY
            self._look(now)
        self.settle(now)

    def _look(self, now: Now) -> None:
        self.rosters.seen(now, self.reachable)
        grants, hearing = self.cluster.grants, self.rosters.hearing
        grants.isolated, grants.few = hearing.isolated(now), hearing.few
        self.mender.step(now)
        self.hosted.look(now)
        absent = self.rosters.overdue(now, self._broker.config.dead_after, self.mender.orphans.missed)
        if absent is not None and self.cluster.leads(ROSTER):
            self.rosters.step(now, Step("forget", absent, True), done=lambda now, error: None)
        elif absent is not None:
            self.cluster.want(now, ROSTER, self.rosters.first)

    def next_deadline(self) -> float:
        """Return when `tick` must be called next (running time)."""
        later = self._later[0][0] if self._later else math.inf
        due = min(core.next_deadline() for core in (self.front, self.catalog, self.debts))
        return min(self.cluster.next_deadline(self._broker.now), due, later, self._look_at)

    def stop(self, now: Now) -> bool:
        """Hand over what is led here, and deliver no more; return whether to call again, if there is time."""
        if not self.leaving:
            self.leaving = True
            self.candidates.stop()
        for partition in list(self.cluster.leads_all()):
            if (successor := self.cluster.successor(partition)) is not None:
                self.cluster.hand_over(now, partition, successor)
        self.settle(now)
        return bool(self.linked and self.cluster.leases.all())
