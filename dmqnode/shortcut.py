"""The short way of most sends: to a queue of one partition that is led by the node which was asked.

It comes to what `Fanout` and `FrontEnd` make of them, without the steps that bring nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.errors import DMQError
from dmqnode.ids import partition_id
from dmqnode.messages import Failed, Message, Send
from dmqnode.shards import is_shard, shard_name

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering
    from dmqnode.surroundings import Session


def send_here(
    broker: Broker, clustering: Clustering, now: Now, session: Session, number: int, request: Send
) -> bool:
    """Take in a client's send, if this is the way for it; else return False, and nothing was done."""
    queue = broker.registry.queues.get(request.queue)
    if queue is None or is_shard(request.queue) or clustering.crossings.merging.under_way:
        return False
    definition = queue.definition
    if definition.settings.partitions != 1 or request.spread > 1:
        return False
    partition = partition_id(definition.id, 0)
    if not clustering.cluster.leads(partition) or not clustering.hosted.serves(partition):
        return False
    part = Send(
        shard_name(definition, 0),
        request.producer,
        request.sequence,
        request.floor,
        request.delay,
        False,
        request.batch,
    )

    def stored(now: Now, answer: Message) -> None:
        if isinstance(answer, Failed) and answer.code in clustering.fanout.GAVE_WAY:
            clustering.fanout.receive(now, session.id, number, request)
        else:
            broker.reply(session.id, number, answer)

    first = clustering.first_homes(definition, 0)
    ask = clustering.front.remember(now, session.id, number, partition, first, part, stored)
    if ask is not None:
        ask.where = clustering.me
        try:
            broker.sends.send(now, session, ask.ticket, part)
        except DMQError as error:
            broker.refuse(session.id, ask.ticket, error)
    return True
