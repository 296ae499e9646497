"""The queues that there are: created, changed, deleted, found by name and by id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import InvalidRequest, QueueExists, QueueNotFound, StaleReceipt, Unknown
from dmqnode.ids import QUEUE_ID_SIZE, PartitionId, QueueId
from dmqnode.keys import QUEUES, queue_key
from dmqnode.loading import purge_page, read_definitions
from dmqnode.messages import CreateQueue, DeleteQueue, Done, Message, PurgeQueue, QueueInfo, SetQueue
from dmqnode.partition import Partition
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
from dmqnode.reclaiming import Reclaiming
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.surroundings import Session

Safe = Callable[[Now, bool], None]
"""Called once a change is on enough disks (True), or too few said so in time (False)."""


class Registry:
    """All queues of the node, by name."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.queues: dict[str, Queue] = {}
        self.by_partition: dict[PartitionId, Queue] = {}
        self._by_id: dict[QueueId, Queue] = {}
        self._doubles: dict[str, dict[QueueId, None]] = {}
        """Names that several queues have, and these."""
        self.reclaiming = Reclaiming(broker)
        self.unreadable: set[QueueId] = set()
        """Queues whose definitions were damaged: what is on disk of them stays there."""
        self.damaged: frozenset[QueueId] = frozenset()
        """Queues that are unreadable as long as there is no other record of them."""
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
        if (queue := self._by_id.get(id_)) is None:
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
                definition = replace(queue.definition, settings=settings)
                if settings.partitions > queue.definition.settings.partitions:
                    definition = self._grown_alone(queue.definition, settings)
                self._define(now, definition, self._info_later(session, number, queue))
                self._broker.deliveries.serve(now, queue)
            case DeleteQueue():
                queue = self.find(request.queue)
                for definition in self.giving_way(request.queue):
                    self._delete(now, self._by_id[definition.id], lambda now, safe: None)
                self._delete(now, queue, self._deleted_later(session, number))
            case PurgeQueue():
                self._broker.when_open(
                    now,
                    queue := self.find(request.queue),
                    lambda now: self._purge(now, session, number, queue),
                    lambda now, error: self._broker.refuse(session.id, number, error),
                )
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
        if there is not None:
            answer = self._info_later(session, number, there)
            self._broker.write_meta(WriteBatch(), lambda now: answer(now, True))
            return

        created = partial(self._info_later, session, number)
        self._create(now, request.queue, session.user, settings, created)

    def _create(
        self,
        now: Now,
        name: str,
        owner: str,
        settings: Settings,
        done: Callable[[Queue], Safe] = lambda queue: lambda now, safe: None,
    ) -> Queue:
        """Create a queue, and call what `done` returns of it once that is on disk.

        By then it may be deleted, and another may bear its name.
        """
        check_name(name)
        self._need_dead_letter(now, settings, name, owner)
        definition = Definition(
            id=self._new_id(), name=name, owner=owner, created_at=now.wall, settings=settings
        )
        if self._broker.clustering is not None:
            definition = self._broker.clustering.placed(definition)
        queue = self._add(definition)
        self._define(now, definition, done(queue))
        return queue

    def _new_id(self) -> QueueId:
        identity = self._broker.identity
        spread = int.from_bytes(identity.node, "big") ^ (identity.nonce << 32)
        while True:
            self._made += 1
            made = identity.boot.to_bytes(4, "big") + self._made.to_bytes(4, "big")
            id_ = QueueId((int.from_bytes(made, "big") ^ spread).to_bytes(QUEUE_ID_SIZE, "big"))
            if not any(id_ in taken for taken in (self._by_id, self.reclaiming, self.unreadable)):
                return id_

    def create_default(self, now: Now, name: str, owner: str, done: Safe = lambda now, safe: None) -> Queue:
        """Create a queue with default settings: a send wants it, or a dead-letter queue is gone."""
        return self._create(now, name, owner, Settings(), lambda queue: done)

    def _need_dead_letter(self, now: Now, settings: Settings, name: str, owner: str) -> None:
        target = settings.dead_letter
        if target == name:
            raise InvalidRequest("a queue cannot be its own dead-letter queue; name another")
        if target is not None and target not in self.queues:
            self._create(now, target, owner, Settings())

    def _add(self, definition: Definition) -> Queue:
        broker = self._broker
        queue = Queue(definition, broker.new_log, broker.counters, broker.reads, broker.wake)
        there = self.queues.get(definition.name)
        self._by_id[definition.id] = queue
        if there is not None:
            doubles = self._doubles.setdefault(definition.name, {there.definition.id: None})
            doubles[definition.id] = None
        if there is None or definition.age < there.definition.age:
            self.queues[definition.name] = queue
        self.unreadable.discard(definition.id)
        return queue

    def _grown_alone(self, old: Definition, settings: Settings) -> Definition:
        """Return a queue's definition with more partitions, on the one node that there is."""
        alone = ((self._broker.identity.node,),) * (settings.partitions - len(old.homes))
        return old.grown(settings, old.homes + alone if old.homes else ())

    def grow(self, now: Now, definition: Definition, done: Safe) -> None:
        """Spread a definition with more partitions; its stamp stays, for no setting was changed."""
        clustering = self._broker.clustering
        assert clustering is not None
        self.redefine(now, definition)
        clustering.catalog.put(now, definition.id, encode_definition(definition), done)

    def _define(self, now: Now, definition: Definition, done: Safe) -> None:
        clustering = self._broker.clustering
        if clustering is not None:
            definition = replace(definition, stamp=clustering.catalog.clock.stamp(now.wall))
            self.redefine(now, definition)
            clustering.catalog.put(now, definition.id, encode_definition(definition), done)
            return
        self.redefine(now, definition)
        ops = WriteBatch()
        ops.put(queue_key(definition.id), encode_definition(definition))
        self._broker.write_meta(ops, lambda now: done(now, True))

    def redefine(self, now: Now, definition: Definition) -> None:
        """Take over changed settings, for the queue and what is served of it."""
        broker, queue = self._broker, self._by_id[definition.id]
        more = definition.settings.partitions > queue.definition.settings.partitions
        queue.redefine(definition)
        if broker.clustering is not None:
            broker.clustering.hosted.redefine(definition)
            if more:
                broker.clustering.fanout.polls.grown(now, definition.name)
        elif more and queue.partitions:
            broker.when_open(now, queue, lambda now: broker.deliveries.look_again(now, queue))

    def _info_later(self, session: Session, number: int, queue: Queue) -> Safe:
        """Return what answers with a queue's definition, once that is safe."""
        broker = self._broker

        def answer(now: Now, safe: bool) -> None:
            if safe:
                broker.reply(session.id, number, QueueInfo(queue.definition.info()))
            else:
                broker.refuse(session.id, number, too_few())

        return answer

    def _purge(self, now: Now, session: Session, number: int, queue: Queue) -> None:
        broker = self._broker
        killed = 0
        for partition in queue.partitions:
            killed += partition.purge(now)
            broker.touched(now, partition)
            self.delete_purged(now, partition)
        broker.counters.purged += killed
        queue.partitions[0].after_write(Reply(session.id, number, Done(killed)))
        broker.touched(now, queue.partitions[0])

    def delete_purged(self, now: Now, partition: Partition) -> None:
        """Delete the batches of purged messages, page by page, each on disk before the next is read."""
        if partition.purging or partition.gone or not partition.state.purges:
            return
        partition.purging = True
        broker = self._broker

        def on_disk(now: Now) -> None:
            partition.purging = False
            self.delete_purged(now, partition)

        def deleted(now: Now, result: None) -> None:
            broker.touched(now, partition)
            broker.write_meta(WriteBatch(), on_disk)

        broker.reads.start(now, purge_page(partition), deleted)

    # --- several of one name (T3) --------------------------------------------------------------------

    def every(self) -> list[Queue]:
        """Return all queues, those that give way to another of their name included."""
        return list(self._by_id.values())

    def giving_way(self, name: str) -> list[Definition]:
        """Return the queues of a name that another, which was created before, has."""
        there = self.queues.get(name)
        queues = (self._by_id.get(id_) for id_ in self._doubles.get(name, ()))
        return [queue.definition for queue in queues if queue is not None and queue is not there]

    def winner_over(self, id_: QueueId) -> Definition | None:
        """Return the queue to which another one gives way, None if it does not."""
        queue = self._by_id.get(id_)
        there = self.queues.get(queue.name) if queue is not None else None
        return None if there is None or there is queue else there.definition

    def _notice_doubles(self, now: Now, name: str) -> None:
        if (clustering := self._broker.clustering) is not None and name in self._doubles:
            clustering.crossings.merging.noticed(now, name)

    # --- what other nodes say ------------------------------------------------------------------------

    def definition_of(self, id_: QueueId) -> Definition | None:
        """Return the definition of a queue by its id, None if it is deleted or unknown."""
        queue = self._by_id.get(id_)
        return None if queue is None else queue.definition

    def learn(self, now: Now, id_: QueueId, record: bytes) -> None:
        """Another node has created, changed or deleted a queue."""
        definition = decode_definition(id_, record)
        known = self._by_id.get(id_)
        if definition is None:
            if known is not None:
                self._drop(now, known)
            # What is being written now is on disk before it is looked for; a copy may have no queue yet.
            self._broker.write_meta(WriteBatch(), partial(self.reclaiming.begin, queue=id_))
            return
        if known is None:
            self._add(definition)
            self._notice_doubles(now, definition.name)
        elif known.name == definition.name:
            self.redefine(now, definition)

    # --- deleting ------------------------------------------------------------------------------------

    def _drop(self, now: Now, queue: Queue) -> None:
        """A queue is no more: refuse whoever waits for it, forget its partitions."""
        broker = self._broker
        del self._by_id[queue.definition.id]
        if self.queues.get(queue.name) is queue:
            del self.queues[queue.name]
            if others := self.giving_way(queue.name):
                self.queues[queue.name] = self._by_id[min(others, key=lambda definition: definition.age).id]
        self.reclaiming.expect(queue.definition.id)
        error = self.not_found(queue.name)
        if broker.clustering is not None:
            broker.clustering.hosted.drop(now, queue.definition, error)
        broker.deliveries.refuse_all(now, queue, error)
        for partition in queue.partitions:
            broker.forget(partition)
            for reply in partition.abandon():
                broker.refuse(reply.session, reply.number, error, reply.size)
        queue.close()
        pending, queue.pending = queue.pending, []
        for _, gone in pending:
            gone(now, error)

    def _deleted_later(self, session: Session, number: int) -> Safe:
        """Return what answers that a queue is deleted, once that is safe."""

        def answer(now: Now, safe: bool) -> None:
            if safe:
                self._broker.reply(session.id, number, Done(1))
            else:
                self._broker.refuse(session.id, number, too_few())

        return answer

    def _delete(self, now: Now, queue: Queue, then: Safe) -> None:
        broker, id_ = self._broker, queue.definition.id
        self._drop(now, queue)

        def deleted(now: Now, safe: bool) -> None:
            then(now, safe)
            self.reclaiming.begin(now, id_)

        if broker.clustering is not None:
            stamp = broker.clustering.catalog.clock.stamp(now.wall)
            broker.clustering.catalog.put(now, id_, encode_deleted(queue.name, now.wall, stamp), deleted)
            return
        ops = WriteBatch()
        ops.put(queue_key(id_), encode_deleted(queue.name, now.wall))
        broker.write_meta(ops, lambda now: deleted(now, True))

    # --- at the start --------------------------------------------------------------------------------

    def load(self, now: Now) -> None:
        """Read all definitions; `loaded` says when that is done."""
        self._broker.reads.start(now, read_definitions(), self._read_done)

    def _read_done(self, now: Now, found: tuple[list[tuple[bytes, bytes]], set[QueueId]]) -> None:
        rows, self.unreadable = found
        self.damaged = frozenset(self.unreadable)
        for key, record in rows:
            id_ = QueueId(key[len(QUEUES) :])
            definition = decode_definition(id_, record)
            if self._broker.clustering is not None:
                self._broker.clustering.catalog.load(id_, record)
            if definition is None:
                self.unreadable.discard(id_)
                self.reclaiming.begin(now, id_)
            else:
                self._add(definition)
        for name in self._doubles:
            self._notice_doubles(now, name)
        self.loaded = True


def too_few() -> Unknown:
    """Return the error for a change of a queue that too few nodes confirmed in time."""
    return Unknown("too few nodes confirmed the change in time; look with: dmq queue list, and try again")
