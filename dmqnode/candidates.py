"""Who may come to lead: homes that may grant, whose clocks are right, and that do not stop.

A node that stops says Goodbye to those that it can talk to before it hands over what it leads.  Placement may
prefer that very node: without the word, who takes over would hand back at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmqnode.ids import NodeId
from dmqnode.messages import Goodbye, Message

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

SETTLED = 2.5
"""Seconds after which a node that came back grants again, and may lead: a little over a lease."""
WORD = Goodbye("stopping", "this node stops; hand nothing over to it")


class Candidates:
    """Who of the others may come to lead.

    Arguments:
        broker: of the node.
        clustering: its `linked` are the nodes that it can talk to, since when.
    """

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._parting: dict[NodeId, None] = {}
        """Of those linked the ones that stop."""

    def may_lead(self, node: NodeId) -> bool:
        """Tell whether a node answers, will, and has for longer than it may be silent after a start (L1).

        This node may, unless it stops.
        """
        clustering = self._clustering
        if node == clustering.me:
            return not clustering.leaving
        since, now = clustering.linked.get(node), self._broker.now
        if since is None or node in self._parting:
            return False
        return now.run - since >= SETTLED and not clustering.walls.far(now, node)

    def receive(self, sender: NodeId, message: Message) -> bool:
        """Take in a message of a peer; tell whether it was one of this core."""
        if not isinstance(message, Goodbye):
            return False
        if sender in self._clustering.linked:
            self._parting[sender] = None
        return True

    def met(self, node: NodeId) -> None:
        """This node can talk to another: to one that stopped, again."""
        self._parting.pop(node, None)
        if self._clustering.leaving:
            self._clustering.send(node, WORD)

    def gone(self, node: NodeId) -> None:
        """The connection to a node broke."""
        self._parting.pop(node, None)

    def stop(self) -> None:
        """Tell the others, once, that this node stops."""
        for node in self._clustering.linked:
            self._clustering.send(node, WORD)
