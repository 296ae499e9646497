"""Who leads what a client asks for: told so that it can go there itself, and be spared a hop.

Told is what is news to a session: another leader than the last time, or the same one when the client
still asks through this node half a minute later.  A client that does not want to know is told nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.ids import NodeId, PartitionId, QueueId
from dmqnode.messages import Ack, Extend, Leads, Nack, Receive, Send

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

TOLD = frozenset((Send, Receive, Ack, Nack, Extend))
"""The requests that a leader does faster than anybody else."""
TELL_AGAIN = 30.0
"""Seconds after which a client that has not gone to the leader is told once more."""
MOST_TOLD = 1024
"""Partitions that are remembered of a session; beyond, it is told anew."""


class News:
    """What clients are told of leaders."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering

    def tell(self, now: Now, session: int, partition: PartitionId, leader: NodeId) -> None:
        """`leader` has answered a client: tell it who that is, if it does not know."""
        known = self._broker.sessions.get(session)
        if known is None or known.told is None:
            return
        told = known.told.get(partition)
        if told is None and leader == self._clustering.me:
            return  # it is where it should be
        if told is not None and told[0] == leader and now.run - told[1] < TELL_AGAIN:
            return
        member = self._clustering.rosters.current.find(leader)
        definition = self._broker.registry.definition_of(QueueId(partition[:8]))
        if member is None or definition is None:
            return
        if len(known.told) >= MOST_TOLD:
            known.told.clear()
        known.told[partition] = (leader, now.run)
        partitions = definition.settings.partitions
        news = Leads(definition.name, partition, partitions, member.name, member.address)
        self._broker.reply(session, 0, news)
