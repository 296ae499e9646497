"""A node that was alone becomes one of several.

Alone, a node serves its queues without leases and copies.  Before another joins it finishes what is under
way, closes its partitions, and opens them again as one that leads them because nobody else is a home.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.errors import Refused, Unavailable
from dmqnode.messages import Step
from dmqnode.queues import encode_definition
from dmqnode.roster import Roster
from storage.ops import WriteBatch

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.surroundings import Session

Then = Callable[[Now], None]


class Entrance:
    """The way from one node to several; taken once.

    Arguments:
        broker: of the node.
        roster: as this node has it on disk: of itself, or of the cluster that it joined.
        rng: for nonces and waiting.
        silent: seconds during which nothing is granted (L1).
    """

    def __init__(self, broker: Broker, roster: Roster, rng: random.Random, *, silent: float) -> None:
        self._broker = broker
        self._roster = roster
        self._rng = rng
        self._silent = silent
        self._waiting: list[Then] = []

    @property
    def under_way(self) -> bool:
        """Whether the node is about to become one of several, and takes no requests."""
        return bool(self._waiting)

    def refuse(self) -> Unavailable:
        """Return the error for a request that comes meanwhile."""
        return Unavailable("this node is about to become one of several; again in a moment", code="stopping")

    def step(self, now: Now, session: Session, number: int, step: Step) -> None:
        """A second member is to join a node that is alone.  Errors: Refused."""
        if step.kind != "join":
            raise Refused("this node is alone: there is no other member to leave or to be forgotten")

        def again(now: Now) -> None:
            if session.id in self._broker.sessions:  # else whoever asked has gone meanwhile
                self._broker.receive(now, session.id, number, step)

        self.enter(now, again)

    def enter(self, now: Now, then: Then) -> None:
        """Become one of several, then call `then`."""
        broker = self._broker
        if broker.clustering is not None:
            then(now)
            return
        self._waiting.append(then)
        broker.deliveries.end_waits(now)
        broker.save_notes()
        broker.write_meta(WriteBatch(), lambda now: self.go_on(now))

    def go_on(self, now: Now) -> None:
        """A write group is on disk: with nothing more to write, enter."""
        broker = self._broker
        if not self._waiting or broker.clustering is not None:
            return
        if broker.unsettled:
            broker.write_meta(WriteBatch(), lambda now: self.go_on(now))
            return
        for queue in broker.registry.every():
            for partition in queue.partitions:
                broker.forget(partition)
            pending, queue.pending = queue.pending, []
            queue.close()
            for _, gone in pending:
                gone(now, self.refuse())
        clustering = Clustering(broker, self._roster, self._rng, now, silent=self._silent)
        broker.clustering = clustering
        self._name_homes(now, clustering)
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(now)

    def _name_homes(self, now: Now, clustering: Clustering) -> None:
        """Say of every queue made while this node was alone that it is here (H5), for others to know."""
        ops = WriteBatch()
        for queue in self._broker.registry.every():
            definition = queue.definition
            if not definition.homes:
                homes = ((clustering.me,),) * definition.settings.partitions
                stamp = clustering.catalog.clock.stamp(now.wall)
                definition = replace(definition, homes=homes, stamp=stamp)
                queue.redefine(definition)
                ops.put(*clustering.catalog.row(definition.id, encode_definition(definition)))
            clustering.catalog.load(definition.id, encode_definition(definition))
        if len(ops):
            self._broker.write_meta(ops, lambda now: None)
