"""More partitions for a queue in use, in a cluster of several nodes.

    set --partitions ──> leader of the queue's first partition: what is known of earlier growth is read
      ──> the homes of the new ones chosen ──> written to the first partition, on a majority of its homes
      ──> the definition, longer by the new homes, spread to everybody ──> answered

A partition begins with one set of homes, or it would have two leaders (H5).  So whoever leads the first
partition chooses, and what was chosen once is chosen for ever, also if nobody has heard of it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import cbor2

from dmqnode.clock import Now
from dmqnode.errors import DMQError, StaleReceipt, Unavailable, Unknown
from dmqnode.hosted import not_leader
from dmqnode.ids import NodeId, QueueId, partition_id
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Message, QueueInfo, SetQueue
from dmqnode.queue import Queue
from dmqnode.queues import Definition, change_settings
from dmqnode.reads import Get, Procedure, Rows
from dmqnode.roster import RECORD
from dmqnode.shards import read_shard, shard_name
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering
    from dmqnode.surroundings import Session

TIMEOUT = 5.0
"""Seconds after which the outcome is unknown if too few homes have said that they have it."""
Homes = tuple[tuple[NodeId, ...], ...]


class Growth:
    """What this node does when a queue is to have more partitions."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._under_way: dict[QueueId, Queue] = {}

    # --- at the node that was asked ------------------------------------------------------------------

    def asked(self, now: Now, session: Session, number: int, request: SetQueue) -> bool:
        """Have a queue grow if a client's request says so; tell whether it does.

        Errors: QueueNotFound, InvalidRequest.
        """
        registry = self._broker.registry
        definition = registry.find(request.queue).definition
        settings = change_settings(definition.settings, request.settings, created=True)
        if settings.partitions == definition.settings.partitions:
            return False
        rest = {name: value for name, value in request.settings.items() if name != "partitions"}

        def grown(now: Now, answer: Message) -> None:
            try:
                if not isinstance(answer, QueueInfo):
                    self._broker.reply(session.id, number, answer)
                elif rest:
                    registry.change(now, session, number, SetQueue(request.queue, rest))
                else:
                    info = registry.find(request.queue).definition.info()
                    self._broker.reply(session.id, number, QueueInfo(info))
            except DMQError as error:
                self._broker.refuse(session.id, number, error)

        shard = SetQueue(shard_name(definition, 0), {"partitions": settings.partitions})
        self._clustering.fanout.ask(now, session.id, number, definition, 0, shard, grown)
        return True

    # --- at the leader of the first partition --------------------------------------------------------

    def lead(self, now: Now, session: int, number: int, request: SetQueue) -> None:
        """Let a queue grow whose first partition is led here.  Errors: Refused and its kinds."""
        definition = self._broker.registry.queue_by_id(read_shard(request.queue)[0]).definition
        settings = change_settings(definition.settings, request.settings, created=False)
        shard = self._clustering.hosted.shard(partition_id(definition.id, 0))
        if self._under_way.get(definition.id) is shard:
            raise Unavailable("this queue is getting more partitions now; again in a moment")
        # It stays until it is known how it went, or the lease is over and with it the shard: what comes
        # next must read what this one writes.
        self._under_way[definition.id] = shard
        step = _Step(self._broker, self._clustering, session, number, definition)
        step.over = partial(self._over, definition.id, shard)
        step.begin(now, settings.partitions)

    def _over(self, queue: QueueId, shard: Queue) -> None:
        if self._under_way.get(queue) is shard:
            del self._under_way[queue]


class _Step:
    """One queue gets more partitions."""

    def __init__(
        self, broker: Broker, clustering: Clustering, session: int, number: int, definition: Definition
    ) -> None:
        self._broker = broker
        self._clustering = clustering
        self._session = session
        self._number = number
        self._id = definition.id
        self._first = partition_id(definition.id, 0)
        self._answered = False
        self.over: Callable[[], None] = lambda: None

    def begin(self, now: Now, count: int) -> None:
        """Read what was chosen before, and choose the rest."""
        key = PartitionKeys.of(self._first).prefix + RECORD
        self._broker.reads.start(now, _get(key), lambda now, rows: self._read(now, count, key, rows))
        self._clustering.later(now, TIMEOUT, lambda now: self._refuse(too_few()))

    def _read(self, now: Now, count: int, key: bytes, rows: Rows) -> None:
        definition = self._broker.registry.definition_of(self._id)
        if definition is None:
            self._fail(StaleReceipt("the queue was deleted meanwhile"))
            return
        homes = definition.homes
        if rows.rows:
            # Of partitions in use it says nothing: it may be what one leader wrote that nobody followed.
            homes += _decode(rows.rows[0][1])[len(homes) :]
        new = range(len(homes), count)
        homes += tuple(self._clustering.wanted(partition_id(self._id, index)) for index in new)
        ops = WriteBatch()
        ops.put(key, _encode(homes))
        if not self._clustering.replicate(now, self._first, ops, lambda now: self._chosen(now, homes)):
            self._fail(not_leader(None))

    def _chosen(self, now: Now, homes: Homes) -> None:
        """A majority of the first partition's homes has it: say so to everybody."""
        registry = self._broker.registry
        definition = registry.definition_of(self._id)
        if definition is not None and len(homes) > definition.settings.partitions:
            more = replace(definition.settings, partitions=len(homes))
            registry.grow(now, definition.grown(more, homes), self._told)
        else:
            self._told(now, safe=True)

    def _told(self, now: Now, safe: bool) -> None:
        definition = self._broker.registry.definition_of(self._id)
        if not safe or definition is None:
            self._fail(too_few())
            return
        self.over()
        if not self._answered:
            self._answered = True
            self._broker.reply(self._session, self._number, QueueInfo(definition.info()))

    def _fail(self, error: DMQError) -> None:
        self.over()
        self._refuse(error)

    def _refuse(self, error: DMQError) -> None:
        if not self._answered:
            self._answered = True
            self._broker.refuse(self._session, self._number, error)


def too_few() -> Unknown:
    """Return the error for growth that too few nodes confirmed in time."""
    return Unknown("too few nodes confirmed the new partitions in time; set them again")


def _encode(homes: Homes) -> bytes:
    # Begins like a roster's record: of two the one with the greater number counts (`smallrows.merge`).
    return cbor2.dumps([len(homes), homes])


def _decode(record: bytes) -> Homes:
    return tuple(tuple(NodeId(node) for node in nodes) for nodes in cbor2.loads(record)[1])


def _get(key: bytes) -> Procedure[Rows]:
    return (yield Get((key,)))
