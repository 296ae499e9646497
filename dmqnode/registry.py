"""The queues that there are: created, changed, deleted, found by name and by id."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.effects import Compact, Reply
from dmqnode.errors import QueueExists, QueueNotFound, StaleReceipt
from dmqnode.ids import QUEUE_ID_SIZE, PartitionId, QueueId
from dmqnode.keys import QUEUES, QUEUES_END, queue_key, queue_range
from dmqnode.messages import (
    CreateQueue,
    DeleteQueue,
    Done,
    Message,
    PurgeQueue,
    QueueInfo,
    SetQueue,
)
from dmqnode.queue import Queue
from dmqnode.queues import (
    Definition,
    Settings,
    change_settings,
    check_name,
    decode_definition,
    encode_definition,
    encode_deleted,
)
from dmqnode.reads import Procedure, Scan
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker, Session

RECLAIM_ROWS = 1024


class Registry:
    """All queues of the node, by name."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.queues: dict[str, Queue] = {}
        self.by_partition: dict[PartitionId, Queue] = {}
        self._by_id: dict[QueueId, Queue] = {}
        self._made = 0
        self.loaded = False

    # --- finding -------------------------------------------------------------------------------------

    def find(self, name: str) -> Queue:
        """Return the queue of this name.

        Errors: QueueNotFound.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise self.not_found(name)
        return queue

    def not_found(self, name: str) -> QueueNotFound:
        """Return the error for a name that no queue has."""
        check_name(name)
        return QueueNotFound(f'queue "{name}" does not exist; create it with: dmq queue create {name}')

    def find_or_create(self, now: Now, session: Session, name: str, *, create: bool) -> Queue:
        """Return the queue of this name, made with default settings if `create` says so.

        Errors: QueueNotFound, InvalidRequest.
        """
        if create and name not in self.queues:
            return self._create(now, name, session.user, Settings())
        return self.find(name)

    def queue_by_id(self, id_: QueueId) -> Queue:
        """Return the queue of this id.

        Errors: StaleReceipt, for ids come from receipts.
        """
        queue = self._by_id.get(id_)
        if queue is None:
            raise StaleReceipt("the queue of this receipt does not exist any more; nothing is left to do")
        return queue

    # --- changing ------------------------------------------------------------------------------------

    def change(self, now: Now, session: Session, number: int, request: Message) -> None:
        """Answer a request that creates, changes, deletes or purges a queue; once that is on disk.

        Errors: Refused and its kinds.
        """
        match request:
            case CreateQueue():
                self._create_queue(now, session, number, request)
            case SetQueue():
                queue = self.find(request.queue)
                settings = change_settings(queue.definition.settings, request.settings, created=True)
                self._need_dead_letter(now, settings, queue.name, session.user)
                self._define(replace(queue.definition, settings=settings))
                self._info_later(session, number, queue)
                self._broker.deliveries.serve(now, queue)
            case DeleteQueue():
                self._delete(now, session, number, self.find(request.queue))
            case PurgeQueue():
                queue = self.find(request.queue)
                self._broker.when_open(now, queue, lambda now: self._purge(now, session, number, queue))
            case _:
                raise AssertionError(f"{request} changes no queue")

    def _create_queue(self, now: Now, session: Session, number: int, request: CreateQueue) -> None:
        check_name(request.queue)
        settings = change_settings(Settings(), request.settings, created=False)
        there = self.queues.get(request.queue)
        if there is not None and not request.if_not_exists:
            raise QueueExists(
                f'queue "{request.queue}" exists; change it with: dmq queue set {request.queue}'
            )
        if there is None:
            there = self._create(now, request.queue, session.user, settings)
        self._info_later(session, number, there)

    def _create(self, now: Now, name: str, owner: str, settings: Settings) -> Queue:
        check_name(name)
        self._need_dead_letter(now, settings, name, owner)
        self._made += 1
        identity = self._broker.identity
        made = identity.boot.to_bytes(4, "big") + self._made.to_bytes(4, "big")
        spread = int.from_bytes(identity.node, "big") ^ (identity.nonce << 32)
        id_ = QueueId((int.from_bytes(made, "big") ^ spread).to_bytes(QUEUE_ID_SIZE, "big"))
        definition = Definition(id=id_, name=name, owner=owner, created_at=now.wall, settings=settings)
        self._add(definition)
        self._define(definition)
        return self.queues[name]

    def create_default(self, now: Now, name: str, owner: str) -> Queue:
        """Create a queue with default settings: a dead-letter queue that was deleted meanwhile."""
        return self._create(now, name, owner, Settings())

    def _need_dead_letter(self, now: Now, settings: Settings, name: str, owner: str) -> None:
        target = settings.dead_letter
        if target is not None and target not in self.queues and target != name:
            self._create(now, target, owner, Settings())

    def _add(self, definition: Definition) -> None:
        broker = self._broker
        queue = Queue(definition, broker.new_log, broker.counters, broker.reads, broker.wake)
        self.queues[definition.name] = queue
        self._by_id[definition.id] = queue

    def _define(self, definition: Definition) -> None:
        self.queues[definition.name].redefine(definition)
        ops = WriteBatch()
        ops.put(queue_key(definition.id), encode_definition(definition))
        self._broker.write_meta(ops, lambda now: None)

    def _info_later(self, session: Session, number: int, queue: Queue) -> None:
        broker = self._broker
        info = QueueInfo(queue.definition.info())
        broker.write_meta(WriteBatch(), lambda now: broker.reply(session.id, number, info))

    def _purge(self, now: Now, session: Session, number: int, queue: Queue) -> None:
        broker = self._broker
        killed = 0
        for partition in queue.partitions:
            killed += partition.purge()
            broker.touched(now, partition)
            queue.delete_purged(now, partition, lambda now, result, p=partition: broker.touched(now, p))  # type: ignore[misc]
        broker.counters.purged += killed
        queue.partitions[0].after_write(Reply(session.id, number, Done(killed)))
        broker.touched(now, queue.partitions[0])

    # --- deleting ------------------------------------------------------------------------------------

    def _delete(self, now: Now, session: Session, number: int, queue: Queue) -> None:
        broker = self._broker
        del self.queues[queue.name]
        del self._by_id[queue.definition.id]
        error = self.not_found(queue.name)
        broker.deliveries.refuse_all(queue, error)
        for partition in queue.partitions:
            self.by_partition.pop(partition.id, None)
            broker.forget(partition)
            for reply in partition.abandon():
                broker.refuse(reply.session, reply.number, error)
        ops = WriteBatch()
        ops.put(queue_key(queue.definition.id), encode_deleted(queue.name, now.wall))

        def deleted(now: Now) -> None:
            broker.reply(session.id, number, Done(1))
            self._reclaim(now, queue.definition.id)

        broker.write_meta(ops, deleted)

    def _reclaim(self, now: Now, id_: QueueId) -> None:
        """Delete what a deleted queue left on disk, then the record that says that it was deleted."""
        broker = self._broker

        def reclaimed(now: Now, result: None) -> None:
            ops = WriteBatch()
            ops.delete(queue_key(id_))
            broker.write_meta(ops, lambda now: None)
            broker.compactions.append(Compact(*queue_range(id_)))

        broker.reads.start(now, self._reclaim_pages(id_), reclaimed)

    def _reclaim_pages(self, id_: QueueId) -> Procedure[None]:
        start, stop = queue_range(id_)
        while True:
            page = yield Scan(start, stop, RECLAIM_ROWS)
            ops = WriteBatch()
            for key, _ in page.rows:
                ops.delete(key)
                start = key + b"\x00"
            self._broker.write_meta(ops, lambda now: None)
            if not page.more:
                return

    # --- at the start --------------------------------------------------------------------------------

    def load(self, now: Now) -> None:
        """Read all definitions; `loaded` says when that is done."""
        self._broker.reads.start(now, self._read(), self._read_done)

    def _read(self) -> Procedure[list[tuple[bytes, bytes]]]:
        start, rows = QUEUES, []
        while True:
            page = yield Scan(start, QUEUES_END, 4096)
            rows += page.rows
            if not page.more:
                return rows
            if page.rows:
                start = page.rows[-1][0] + b"\x00"

    def _read_done(self, now: Now, rows: list[tuple[bytes, bytes]]) -> None:
        for key, record in rows:
            id_ = QueueId(key[len(QUEUES) :])
            definition = decode_definition(id_, record)
            if definition is None:
                self._reclaim(now, id_)
            else:
                self._add(definition)
        self.loaded = True
