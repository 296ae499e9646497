"""The node's mind: routes requests to queues, collects what is to be written, answers what is on disk.

Its shell calls `receive` for each request, `tick` when `next_deadline` says so, performs the reads that
it wants, and in a loop `collect`s a write group, writes it and reports it `written`.  Whatever arrives
while one group is being written joins the next: that is the group commit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.config import NodeConfig
from dmqnode.counters import Counters
from dmqnode.deadlines import Deadlines
from dmqnode.deliveries import Deliveries
from dmqnode.effects import Compact, Reply
from dmqnode.errors import DMQError, Refused, Unavailable
from dmqnode.ids import PartitionId, QueueId
from dmqnode.messages import (
    Ack,
    Browse,
    Cancel,
    CreateQueue,
    DeleteQueue,
    Delivered,
    Explain,
    Extend,
    Failed,
    GetQueue,
    Hello,
    ListQueues,
    Members,
    Message,
    Nack,
    NodeStatus,
    PurgeQueue,
    Receive,
    Redrive,
    Send,
    SetQueue,
    Step,
)
from dmqnode.moves import Moves
from dmqnode.numbering import Numbering
from dmqnode.partition import Collected, Partition
from dmqnode.pending import Look, Pending
from dmqnode.queue import Queue
from dmqnode.reads import Reads
from dmqnode.records import Identity
from dmqnode.registry import Registry
from dmqnode.reports import Reports
from dmqnode.sends import Sends
from dmqnode.surroundings import Session, Surroundings
from dmqnode.upkeep import Upkeep
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.clustering import Clustering
    from dmqnode.entering import Entrance

NOTES_LINGER = 0.01
"""Seconds that delivery notes wait for others: an ack within this time saves the note."""


class Broker:
    """Everything that one node decides.

    Arguments:
        config: of the node.
        identity: of this run.
        started: when the node started.
    """

    def __init__(self, config: NodeConfig, identity: Identity, started: Now) -> None:
        self.config = config
        self.identity = identity
        self.started = started
        self.counters = Counters()
        self.surroundings = Surroundings()
        self.reads = Reads()
        self.deadlines: Deadlines[tuple[str, int, int] | Partition] = Deadlines()
        self.sessions: dict[int, Session] = {}
        self.stopping = False
        self._latest, self.now = started.run, started  # the time of the latest call
        numbering = Numbering(identity)
        self.new_log = numbering.new_log
        self.new_delivery = numbering.new_delivery
        self._sessions = 0
        self._dirty: dict[Partition, None] = {}
        self._noted: dict[Partition, None] = {}
        self._notes_due = math.inf
        self._meta = WriteBatch()
        self._meta_then: list[Callable[[Now], None]] = []
        self._looks: list[Look] = []
        self._meta_synced = False
        self._replies: list[Reply] = []
        self.entrance: Entrance | None = None
        self.clustering: Clustering | None = None
        self.woken: dict[Queue, None] = {}
        """Queues for which reads brought something."""
        self.compactions: list[Compact] = []
        self.registry = Registry(self)
        self.sends = Sends(self)
        self.deliveries = Deliveries(self)
        self.moves = Moves(self)
        self.reports = Reports(self)
        self.upkeep = Upkeep(self)
        self.deadlines.set(("upkeep", 0, 0), started.run)

    def _begin(self, now: Now) -> None:
        self.now = now
        if self.clustering is not None:
            self.clustering.advance(now)

    def wake(self, queue: Queue) -> None:
        """A read brought something for `queue`: serve it once the read is dealt with."""
        self.woken[queue] = None

    # --- sessions ------------------------------------------------------------------------------------

    def open_session(self, hello: Hello) -> int:
        """A client has connected; return the number under which its requests come."""
        self._sessions += 1
        self.sessions[self._sessions] = Session.of(self._sessions, hello)
        return self._sessions

    def close_session(self, number: int) -> None:
        """A client is gone; what it waited for is forgotten, what it holds stays hidden until its time."""
        if self.clustering is not None:
            self.clustering.front.hung_up(self.now, number)
        if (session := self.sessions.pop(number, None)) is not None:
            self.deliveries.forget(session)

    # --- requests ------------------------------------------------------------------------------------

    def receive(self, now: Now, session: int, number: int, message: Message) -> None:
        """Take in one request; its answer comes out of `take_replies`, at once or later."""
        known = self.sessions[session]
        self._latest = now.run
        self.now = now
        self.counters.requests += 1
        try:
            if self.stopping and not isinstance(message, Cancel):
                raise Unavailable("this node is stopping; ask another, or again in a moment", code="stopping")
            if self.entrance is not None and self.entrance.under_way:
                raise self.entrance.refuse()
            if self.clustering is None or not self.clustering.requests.request(now, known, number, message):
                self.route(now, known, number, message)
        except DMQError as error:
            self.refuse(session, number, error)

    def route(self, now: Now, session: Session, number: int, message: Message) -> None:
        """Have a request done by this node itself.  Errors: Refused and its kinds."""
        match message:
            case Send():
                self.sends.send(now, session, number, message)
            case Receive():
                self.deliveries.receive(now, session, number, message)
            case Ack() | Nack() | Extend():
                self.deliveries.settle(now, session, number, message)
            case Cancel():
                self.deliveries.cancel(session, number)
            case CreateQueue() | SetQueue() | DeleteQueue() | PurgeQueue():
                self.registry.change(now, session, number, message)
            case GetQueue() | ListQueues() | Explain() | Browse() | NodeStatus() | Members():
                self.reports.answer(now, session, number, message)
            case Redrive():
                self.moves.redrive(now, session, number, message)
            case Step():
                if self.entrance is None:
                    raise Refused("this node takes no other members")
                self.entrance.step(now, session, number, message)
            case _:
                raise Refused(f"{type(message).__name__} is not a request; this node does not answer it")

    def refuse(self, session: int, number: int, error: DMQError, size: int = 0) -> None:
        """Answer that a request was not done; `size` bytes of it were counted as under way."""
        self.counters.refused += 1
        self.reply(session, number, Failed(error.code, str(error), error.retryable, error.stored), size)

    def reply(self, session: int, number: int, message: Message, size: int = 0) -> None:
        """Answer a request now."""
        self._replies.append(Reply(session, number, message, size))

    def take_replies(self, now: Now | None = None) -> list[Reply]:
        """Return, once, the answers that are to go out; with `now` leases are looked at as of then (L4)."""
        replies = self.more_replies()
        return replies if self.clustering is None else self.clustering.requests.own_replies(replies, now)

    def more_replies(self) -> list[Reply]:
        """Return what dealing with replies brought."""
        replies, self._replies = self._replies, []
        for reply in replies:
            self.sends.unstored -= reply.size
        return replies

    def undelivered(self, now: Now, delivered: Delivered) -> None:
        """An answer never left this node: what it delivered is ready again, whoever leads it."""
        self.deliveries.undelivered(now, delivered)

    def stop(self, now: Now) -> None:
        """Refuse what is new, end the waits, and have the notes of all deliveries written durably (N1)."""
        self.stopping = True
        self.deliveries.end_waits(now)
        self.save_notes()
        if not self._dirty:
            self.write_meta(WriteBatch(), lambda now: None)

    def save_notes(self) -> None:
        """Have the notes of all deliveries written durably with the next group."""
        for partition in self._noted:
            self._dirty[partition] = None

    @property
    def unsettled(self) -> bool:
        """Whether some partition has something to write, or is being read or moved."""
        queues = self.registry.queues.values()
        return bool(self._dirty or self._noted or any(not q.quiet for q in queues))

    # --- queues --------------------------------------------------------------------------------------

    def when_open(
        self,
        now: Now,
        queue: Queue,
        then: Callable[[Now], None],
        gone: Callable[[Now, DMQError], None] = lambda now, error: None,
    ) -> None:
        """Call `then` once the queue's partitions are in memory: now, if they are.

        Arguments:
            gone: called instead, with the error that says so, if the queue is deleted before that.
        """
        if self.registry.queues.get(queue.key) is not queue:
            gone(now, self.registry.not_found(queue.name))
            return
        queue.used_at = now.run
        if queue.open:
            then(now)
            return
        queue.pending.append((then, gone))
        if not queue.opening:
            queue.start_opening(now, partial(self._opened, queue), alone=self.clustering is None)

    def _opened(self, queue: Queue, now: Now, ops: WriteBatch) -> None:
        if self.registry.queues.get(queue.key) is not queue:
            return
        self._meta.extend(ops)
        if queue.opening:
            return
        for partition in queue.partitions:
            self.registry.by_partition[partition.id] = queue
            partition.tick(now)
            self.touched(now, partition)
            self.registry.delete_purged(now, partition)
        pending, queue.pending = queue.pending, []
        for then, gone in pending:
            # What came before may have deleted the queue.
            self.when_open(now, queue, then, gone)

    def queue_of(self, partition: PartitionId) -> tuple[Queue, int]:
        """Return the queue of a partition, and its index there.  Errors: as `Registry.not_found` says."""
        index = int.from_bytes(partition[8:], "big")
        if self.clustering is not None:
            return self.clustering.hosted.shard(partition), index
        return self.registry.queue_by_id(QueueId(partition[:8])), index

    # --- what changed --------------------------------------------------------------------------------

    def touched(self, now: Now, partition: Partition) -> None:
        """A partition changed: see what it wants written, moved and when it is due."""
        if partition.gone:
            return
        if partition.exhausted:
            self.moves.bury(now, partition)
        if partition.unsaved:
            self._dirty[partition] = None
        elif partition.holds.unsaved:
            if not self._noted:
                self._notes_due = now.run + NOTES_LINGER
            self._noted[partition] = None
        self.deadlines.set(partition, partition.next_deadline(now))

    def forget(self, partition: Partition) -> None:
        """A partition is closed or deleted, with everything that it wanted."""
        partition.gone = True
        self.registry.by_partition.pop(partition.id, None)
        self._dirty.pop(partition, None)
        self._noted.pop(partition, None)
        self.deadlines.cancel(partition)

    def write_meta(self, ops: WriteBatch, then: Callable[[Now], None], *, sync: bool = True) -> None:
        """Write something that belongs to no partition led here; `then` is called once it is on disk.

        Arguments:
            sync: False: it is enough that it reaches the system.
        """
        self._meta.extend(ops)
        self._meta_then.append(then)
        self._meta_synced = self._meta_synced or sync

    def look(self, look: Look) -> None:
        """Read ranges as they are right behind the next write group."""
        self._looks.append(look)

    def wants_write(self, now: Now) -> bool:
        """Whether `collect` would return something."""
        waiting = self._dirty or len(self._meta) or self._meta_then or self._looks
        return bool(waiting or (self._noted and self._notes_due <= now.run))

    def collect(self, now: Now) -> Pending | None:
        """Return everything that is to be written now, None if there is nothing."""
        if not self.wants_write(now):
            return None
        batch, self._meta = self._meta, WriteBatch()
        then, self._meta_then = self._meta_then, []
        looks, self._looks = self._looks, []
        sync = bool(self._dirty or self._meta_synced or self.stopping)  # who stops, syncs all
        self._meta_synced = False
        partitions = {**self._dirty, **self._noted}
        self._dirty.clear()
        self._noted.clear()
        self._notes_due = math.inf
        self.counters.writes += 1
        self.counters.synced_writes += sync
        pending = Pending(batch, sync, [], then, looks)
        if self.clustering is None:
            pending.collected = [p.collect(now, batch) for p in partitions]
        else:
            pending.shipped = self.clustering.collect(now, partitions, batch, sync=sync)
        for look in looks:
            look.mark()
        return pending

    def written(self, now: Now, pending: Pending) -> None:
        """A write group is on disk: answer, and deliver what it stored."""
        self._begin(now)
        for collected in pending.collected:
            self.make_known(now, collected)
        for shipment in pending.shipped:
            assert self.clustering is not None
            self.clustering.written(now, shipment)
        for then in pending.then:
            then(now)
        for look in pending.looks:
            look.then(now, look.found)
        if self.clustering is not None:
            self.clustering.settle(now)

    def make_known(self, now: Now, collected: Collected) -> None:
        """What one partition gave into a write group is safe: answer, and deliver what it stored."""
        self._replies += collected.then
        queue = self.registry.by_partition.get(collected.partition.id)
        if collected.partition.written(collected) and queue is not None and not collected.partition.gone:
            self.deadlines.set(collected.partition, collected.partition.next_deadline(now))
            self.deliveries.serve(now, queue)

    # --- time ----------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` must be called next (running time)."""
        notes = self._notes_due if self._notes_due > self._latest else math.inf
        others = math.inf if self.clustering is None else self.clustering.next_deadline()
        return min(self.deadlines.next(), notes, others)

    def tick(self, now: Now) -> None:
        """Do everything that is due."""
        self._latest = max(self._latest, now.run)
        self._begin(now)
        for key in self.deadlines.pop_due(now.run):
            if isinstance(key, Partition):
                self._tick_partition(now, key)
            elif key[0] == "upkeep":
                self.upkeep.run(now)
            else:
                self.deliveries.wait_over(now, key[1], key[2])
        if self.clustering is not None:
            self.clustering.tick(now)

    def _tick_partition(self, now: Now, partition: Partition) -> None:
        queue = self.registry.by_partition.get(partition.id)
        if queue is None:
            return
        woke = partition.tick(now)
        queue.readers[queue.partitions.index(partition)].fill_due(now)
        self.touched(now, partition)
        if woke:
            self.deliveries.serve(now, queue)

    def read_done(self, now: Now, number: int, rows: object) -> None:
        """A read is done; go on with whatever waited for it."""
        self._begin(now)
        self.reads.done(now, number, rows)  # type: ignore[arg-type]
        self.deliveries.serve_woken(now)
        if self.clustering is not None:
            self.clustering.settle(now)
