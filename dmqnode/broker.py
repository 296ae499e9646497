"""The node's mind: routes requests to queues, collects what is to be written, answers what is on disk.

Its shell calls `receive` for each request, `tick` when `next_deadline` says so, performs the reads that
it wants, and in a loop `collect`s a write group, writes it and reports it `written`.  Whatever arrives
while one group is being written joins the next: that is the group commit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from dmqnode.batch import parse
from dmqnode.clock import Now
from dmqnode.config import NodeConfig
from dmqnode.counters import Counters
from dmqnode.deadlines import Deadlines
from dmqnode.deliveries import Deliveries
from dmqnode.effects import Compact, Reply
from dmqnode.errors import DMQError, LimitExceeded, ProtocolError, Refused, Unavailable
from dmqnode.ids import LogId, PartitionId, QueueId, log_id
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
    Stored,
)
from dmqnode.moves import Moves
from dmqnode.partition import Collected, Partition
from dmqnode.queue import Queue
from dmqnode.reads import Reads
from dmqnode.records import Identity
from dmqnode.registry import Registry
from dmqnode.reports import Reports
from dmqnode.upkeep import Upkeep
from storage.ops import WriteBatch

NOTES_LINGER = 0.01
"""Seconds that delivery notes wait for others: an ack within this time saves the note."""
MAX_UNSTORED = 64 << 20
"""Bytes of sends taken in and not yet on disk, of all connections."""


@dataclass(slots=True)
class Pending:
    """One write group: what the committer writes, and what may be said afterwards."""

    batch: WriteBatch
    sync: bool
    collected: list[Collected]
    then: list[Callable[[Now], None]]


@dataclass(slots=True)
class Session:
    """What the broker knows of one connection."""

    id: int
    client: str
    user: str
    waiting: dict[int, Queue] = field(default_factory=dict)
    """The queue that each receive under way waits for."""


@dataclass(slots=True)
class Surroundings:
    """What the shell measures and the broker decides by."""

    memory: int = 0
    free_disk: int = 1 << 62
    store_bytes: int = 0
    set_aside: int = 0
    connections: int = 0
    address: str = ""
    pid: int = 0
    notices: list[str] = field(default_factory=list)


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
        self._latest = started.run
        self._logs = 0
        self._deliveries = 0
        self._sessions = 0
        self._unstored = 0
        self._dirty: dict[Partition, None] = {}
        self._noted: dict[Partition, None] = {}
        self._notes_due = math.inf
        self._meta = WriteBatch()
        self._meta_then: list[Callable[[Now], None]] = []
        self._replies: list[Reply] = []
        self.woken: dict[Queue, None] = {}
        """Queues for which reads brought something."""
        self.compactions: list[Compact] = []
        self.registry = Registry(self)
        self.deliveries = Deliveries(self)
        self.moves = Moves(self)
        self.reports = Reports(self)
        self.upkeep = Upkeep(self)
        self.deadlines.set(("upkeep", 0, 0), started.run)

    # --- names ---------------------------------------------------------------------------------------

    def new_log(self) -> LogId:
        """Return the id of a new log of this run."""
        self._logs += 1
        return log_id(self.identity.node, self.identity.boot, self.identity.nonce, self._logs)

    def wake(self, queue: Queue) -> None:
        """A read brought something for `queue`: serve it once the read is dealt with."""
        self.woken[queue] = None

    def run_now(self) -> float:
        """Return the running time of the latest call: for reports."""
        return self._latest

    def new_delivery(self) -> int:
        """Return a delivery number that no earlier run of this node has given."""
        self._deliveries += 1
        return ((self.identity.boot & 0xFFFFFF) << 40) | self._deliveries

    # --- sessions ------------------------------------------------------------------------------------

    def open_session(self, hello: Hello) -> int:
        """A client has connected; return the number under which its requests come."""
        self._sessions += 1
        self.sessions[self._sessions] = Session(self._sessions, hello.client[:200], hello.user[:200])
        return self._sessions

    def close_session(self, number: int) -> None:
        """A client is gone; what it waited for is forgotten, what it holds stays hidden until its time."""
        session = self.sessions.pop(number, None)
        if session is not None:
            for request, queue in session.waiting.items():
                self.deliveries.forget(session, request, queue)

    # --- requests ------------------------------------------------------------------------------------

    def receive(self, now: Now, session: int, number: int, message: Message) -> None:
        """Take in one request; its answer comes out of `take_replies`, at once or later."""
        known = self.sessions[session]
        self._latest = now.run
        self.counters.requests += 1
        try:
            if self.stopping and not isinstance(message, Cancel):
                raise Unavailable("this node is stopping; ask another, or again in a moment", code="stopping")
            self._route(now, known, number, message)
        except DMQError as error:
            self.refuse(session, number, error)

    def _route(self, now: Now, session: Session, number: int, message: Message) -> None:
        match message:
            case Send():
                self._send(now, session, number, message)
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
            case _:
                raise Refused(f"{type(message).__name__} is not a request; this node does not answer it")

    def refuse(self, session: int, number: int, error: DMQError) -> None:
        """Answer that a request was not done."""
        self.counters.refused += 1
        self.reply(session, number, Failed(error.code, str(error), error.retryable, error.stored))

    def reply(self, session: int, number: int, message: Message, size: int = 0) -> None:
        """Answer a request now."""
        self._replies.append(Reply(session, number, message, size))

    def take_replies(self) -> list[Reply]:
        """Return, once, the answers that are to go out."""
        replies, self._replies = self._replies, []
        for reply in replies:
            self._unstored -= reply.size
        return replies

    def undelivered(self, now: Now, delivered: Delivered) -> None:
        """An answer never left this node: what it delivered is ready again."""
        self.deliveries.take_back(now, delivered)

    def stop(self, now: Now) -> None:
        """Refuse what is new, end the waits, and have the notes of all deliveries written durably (N1)."""
        self.stopping = True
        self.deliveries.end_waits(now)
        for partition in self._noted:
            self._dirty[partition] = None
        if not self._dirty:
            self.write_meta(WriteBatch(), lambda now: None)

    # --- sending -------------------------------------------------------------------------------------

    def _send(self, now: Now, session: Session, number: int, request: Send) -> None:
        size = len(request.batch)
        self._admit(size)
        try:
            batch = parse(request.batch)
        except ProtocolError as error:
            raise Refused(str(error), code="invalid") from None
        queue = self.registry.find_or_create(now, session, request.queue, create=request.create)
        self._unstored += size

        def place(now: Now) -> None:
            try:
                if self.registry.queues.get(queue.name) is not queue:
                    raise self.registry.not_found(queue.name)
                runs, duplicates, partitions = queue.send(now, request, batch)
            except DMQError as error:
                self._unstored -= size
                self.refuse(session.id, number, error)
                return
            self.counters.duplicates += duplicates
            self.counters.received_bytes += size
            reply = Reply(session.id, number, Stored(runs, duplicates), size)
            partitions[0].after_write(reply)
            for partition in partitions:
                self.touched(now, partition)

        self.when_open(now, queue, place)

    def _admit(self, size: int) -> None:
        around, config = self.surroundings, self.config
        if around.free_disk < config.disk_reserve:
            raise LimitExceeded(
                f"the disk is full: {around.free_disk >> 20} MiB are free and "
                f"{config.disk_reserve >> 20} MiB are kept for acks; free some space, or receive",
                code="disk-full",
                retryable=True,
            )
        if around.memory > config.memory_limit or self._unstored + size > MAX_UNSTORED:
            raise LimitExceeded(
                "this node is at its memory limit; send again in a moment, or raise --memory-limit",
                code="overloaded",
                retryable=True,
            )

    # --- queues --------------------------------------------------------------------------------------

    def when_open(self, now: Now, queue: Queue, then: Callable[[Now], None]) -> None:
        """Call `then` once the queue's partitions are in memory: now, if they are."""
        queue.used_at = now.run
        if queue.open:
            then(now)
            return
        queue.pending.append(then)
        if not queue.opening:
            queue.start_opening(now, lambda now, ops: self._opened(now, queue, ops))

    def _opened(self, now: Now, queue: Queue, ops: WriteBatch) -> None:
        self._meta.extend(ops)
        if queue.opening:
            return
        for partition in queue.partitions:
            self.registry.by_partition[partition.id] = queue
            self.touched(now, partition)
        queue.resume_purges(now)
        pending, queue.pending = queue.pending, []
        for then in pending:
            then(now)

    def queue_of(self, partition: PartitionId) -> tuple[Queue, int]:
        """Return the queue of a partition, and its index there.

        Errors: StaleReceipt's cousin for a queue that is gone: see `Registry.not_found`.
        """
        return self.registry.queue_by_id(QueueId(partition[:8])), int.from_bytes(partition[8:], "big")

    # --- what changed --------------------------------------------------------------------------------

    def touched(self, now: Now, partition: Partition) -> None:
        """A partition changed: see what it wants written, moved and when it is due."""
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
        """A partition is gone, with everything that it wanted."""
        self._dirty.pop(partition, None)
        self._noted.pop(partition, None)
        self.deadlines.cancel(partition)

    def write_meta(self, ops: WriteBatch, then: Callable[[Now], None]) -> None:
        """Write something that belongs to no partition; `then` is called once it is on disk."""
        self._meta.extend(ops)
        self._meta_then.append(then)

    def wants_write(self, now: Now) -> bool:
        """Whether `collect` would return something."""
        return bool(self._dirty or len(self._meta) or self._meta_then or self._notes_due <= now.run)

    def collect(self, now: Now) -> Pending | None:
        """Return everything that is to be written now, None if there is nothing."""
        if not self.wants_write(now):
            return None
        batch, self._meta = self._meta, WriteBatch()
        then, self._meta_then = self._meta_then, []
        sync = bool(self._dirty or len(batch) or then)
        collected = [p.collect(now, batch) for p in {**self._dirty, **self._noted}]
        self._dirty.clear()
        self._noted.clear()
        self._notes_due = math.inf
        self.counters.writes += 1
        self.counters.synced_writes += sync
        return Pending(batch, sync, collected, then)

    def written(self, now: Now, pending: Pending) -> None:
        """A write group is on disk: answer, and deliver what it stored."""
        for collected in pending.collected:
            self._replies += collected.then
            queue = self.registry.by_partition.get(collected.partition.id)
            if collected.partition.written(collected) and queue is not None:
                self.deadlines.set(collected.partition, collected.partition.next_deadline(now))
                self.deliveries.serve(now, queue)
        for then in pending.then:
            then(now)

    # --- time ----------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` must be called next (running time)."""
        return min(self.deadlines.next(), self._notes_due)

    def tick(self, now: Now) -> None:
        """Do everything that is due."""
        for key in self.deadlines.pop_due(now.run):
            if isinstance(key, Partition):
                self._tick_partition(now, key)
            elif key[0] == "upkeep":
                self.upkeep.run(now)
            else:
                self.deliveries.wait_over(now, key[1], key[2])

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
        self.reads.done(now, number, rows)  # type: ignore[arg-type]
        self.deliveries.serve_woken(now)
