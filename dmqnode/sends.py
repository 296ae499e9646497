"""Taking sends in: what is refused at the door, and what becomes of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.batch import Batch, check_attributes, parse
from dmqnode.clock import Now
from dmqnode.effects import Reply
from dmqnode.errors import DMQError, InvalidRequest, LimitExceeded, ProtocolError, Refused
from dmqnode.messages import Send, Stored
from dmqnode.queue import Queue
from dmqnode.spreading import newest

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.config import NodeConfig
    from dmqnode.surroundings import Session, Surroundings

MAX_UNSTORED = 64 << 20
"""Bytes of sends taken in and not yet on disk, of all connections."""
MAX_PRODUCER = 64
"""Bytes of a producer's id: many of them are remembered."""


class Sends:
    """The sends that are under way."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.unstored = 0
        """Bytes taken in and not answered."""

    def send(self, now: Now, session: Session, number: int, request: Send) -> None:
        """Take in one send; it is answered once it is on disk.

        Errors: Refused and its kinds.
        """
        broker, size = self._broker, len(request.batch)
        self._admit(size)
        if len(request.producer) > MAX_PRODUCER:
            length = len(request.producer)
            raise InvalidRequest(f"a producer id of {length} bytes is too long; the limit is {MAX_PRODUCER}")
        try:
            batch = parse(request.batch)
        except ProtocolError as error:
            raise Refused(str(error), code="invalid") from None
        check_attributes(batch)
        queue = broker.registry.find_or_create(now, session, request.queue, create=request.create)
        self.unstored += size

        def refused(now: Now, error: DMQError) -> None:
            broker.refuse(session.id, number, error, size)

        def place(now: Now) -> None:
            try:
                self._place(now, session, number, request, batch, queue)
            except DMQError as error:
                refused(now, error)

        broker.when_open(now, queue, place, refused)

    def _place(
        self, now: Now, session: Session, number: int, request: Send, batch: Batch, queue: Queue
    ) -> None:
        broker, size = self._broker, len(request.batch)
        # Only a front end of a cluster can have set it: it makes its clients' sends anew.
        moved = request.moved and broker.clustering is not None
        runs, duplicates, partitions = queue.send(now, request, batch, moved=moved)
        broker.counters.duplicates += duplicates
        broker.counters.received_bytes += size
        ordered = queue.definition.settings.ordering == "fifo"
        stored = Stored(runs, duplicates, newest(queue.definition), ordered)
        partitions[0].after_write(Reply(session.id, number, stored, size))
        for partition in partitions:
            broker.touched(now, partition)

    @property
    def short_of_disk(self) -> bool:
        """Whether what is left of the disk is kept for acks."""
        return self._broker.surroundings.free_disk < self._broker.config.disk_reserve

    def _admit(self, size: int) -> None:
        around, config = self._broker.surroundings, self._broker.config
        if self.short_of_disk:
            raise LimitExceeded(disk_is_full(around, config), code="disk-full", retryable=True)
        if around.memory > config.memory_limit or self.unstored + size > MAX_UNSTORED:
            raise LimitExceeded(
                "this node is at its memory limit; send again in a moment, or raise --memory-limit",
                code="overloaded",
                retryable=True,
            )


def disk_is_full(around: Surroundings, config: NodeConfig) -> str:
    """Return the sentence for clients, and for operators."""
    return (
        f"the disk is full: {around.free_disk >> 20} MiB are free and "
        f"{config.disk_reserve >> 20} MiB are kept for acks; free some space, or receive"
    )
