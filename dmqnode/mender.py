"""Partitions that nobody uses are put in order, too: moved where they belong, compared when a home is back.

A partition is led when somebody asks for it.  One that nobody asks for, but whose home set is not what the
roster wants, or one of whose homes was away, is claimed by the first of its homes that answers, the old ones
before the new while a change is unfinished; as its leader that one does the rest.  Where another is believed
to lead, that one is asked first; and a copy that no home needs is given back (`strays`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.forgetting import Forgetting
from dmqnode.homesets import HomeSet
from dmqnode.ids import NodeId, PartitionId, QueueId, partition_id
from dmqnode.messages import Message
from dmqnode.orphans import Orphans
from dmqnode.roster import ROSTER
from dmqnode.strays import Strays

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

LOOK_AT = 1000
"""Partitions looked at in one step."""
CLAIM_AT_ONCE = 50
"""Partitions claimed in one step; moves and comparisons cost those that are in use."""
COMPARE_TWICE = 2
"""Walks that compare everything once a home is back: what was claimed by others in the first, or granted to
nobody, has a second."""
PAUSE = 5.0
"""Seconds from the begin of one walk to that of the next, while something may have changed."""
CALM_PAUSE = 30.0
"""The same when nothing has happened for so long as two walks take."""
VISIT_EVERY = 300.0
"""Seconds from one visit to everything that nobody uses to the next; with many partitions it takes longer,
for one is visited in each step."""


class Mender:
    """Walks over all partitions, again and again, a few at a time."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._walk: Iterator[tuple[PartitionId, HomeSet]] = iter(())
        self._compare_all = True
        """Whether this walk claims also what seems to be in order: a home came back before it began."""
        self._comparisons = 0
        """Such walks that are still to be made."""
        self._alert = 2
        """Walks until nothing is expected to have changed."""
        self._next_walk = -math.inf
        self._next_comparison = -math.inf
        self._visits: Iterator[tuple[PartitionId, HomeSet]] = iter(())
        self._next_visits = -math.inf
        self.strays = Strays(clustering, self._claim_unled)
        self.orphans = Orphans(broker, clustering)
        self.forgetting = Forgetting(broker, clustering)

    def receive(self, now: Now, sender: NodeId, message: Message) -> bool:
        """Take in a peer's message; tell whether it was one of these.  Errors: ProtocolError."""
        return (
            self.strays.receive(now, sender, message)
            or self.orphans.receive(now, sender, message)
            or self.forgetting.receive(now, sender, message)
        )

    def came_back(self) -> None:
        """A node is there again: what it holds may be behind."""
        self._comparisons = COMPARE_TWICE
        self._next_comparison = -math.inf
        self.changed()

    def changed(self) -> None:
        """Who is a member, or who answers, is another."""
        self._alert = max(2, self._comparisons)
        self._next_walk = -math.inf

    def step(self, now: Now) -> None:
        """Look at the next partitions, and visit one that nobody uses."""
        claimed = 0
        self.strays.begin(now)
        self.orphans.begin()
        for _ in range(LOOK_AT):
            found = next(self._walk, None)
            if found is None:
                self._begin_walk(now)
                break
            claimed += self._mend(now, *found, self._compare_all)
            if claimed >= CLAIM_AT_ONCE:
                break
        self._visit(now)
        self.forgetting.step(now)

    def _begin_walk(self, now: Now) -> None:
        compare = self._comparisons > 0 and now.run >= self._next_comparison
        if now.run < self._next_walk and not compare:
            return
        self._walk = self._all()
        self._compare_all = compare
        if compare:
            # Not sooner, though other walks may be: who has just started grants nothing so far (L1).
            self._comparisons -= 1
            self._next_comparison = now.run + PAUSE
        self._next_walk = now.run + (PAUSE if self._alert else CALM_PAUSE)
        self._alert -= self._alert > 0

    def _visit(self, now: Now) -> None:
        """Claim one partition that nobody uses, so that time passes for it, too."""
        for _ in range(LOOK_AT):
            found = next(self._visits, None)
            if found is None:
                if now.run >= self._next_visits:
                    self._next_visits = now.run + VISIT_EVERY
                    self._visits = self._all()
                return
            if self._mend(now, *found, True):
                return

    def _all(self) -> Iterator[tuple[PartitionId, HomeSet]]:
        """Yield every partition, that of the roster too, and its first home set."""
        clustering, registry = self._clustering, self._broker.registry
        yield ROSTER, clustering.rosters.first
        for queue in registry.every():
            for index in range(queue.definition.settings.partitions):
                if registry.definition_of(queue.definition.id) is not None:
                    first = clustering.first_homes(queue.definition, index)
                    yield partition_id(queue.definition.id, index), first

    def _mend(self, now: Now, partition: PartitionId, first: HomeSet, any_: bool) -> bool:
        """Do what is this node's to do about one partition; tell whether it claims it.

        Arguments:
            any_: claim also one that seems to be in order.
        """
        clustering = self._clustering
        if clustering.leader_of(partition) == clustering.me:
            return False
        record = clustering.cluster.homes(partition, first)
        self.orphans.look(partition, record)
        home = clustering.me in record.members
        if not home and not self.strays.holds(now, partition):
            return False
        wanted = clustering.wanted(partition)
        if clustering.me not in wanted:
            self.strays.ask(partition, record, (*record.members, *wanted))
            self._look_again_soon(now)
        if not home:
            return False
        in_order = record.committed and set(record.new) == set(wanted)
        if in_order and not any_:
            return False
        if not in_order:
            self._look_again_soon(now)  # another may be in the way
        return self._claim(now, partition, record)

    def _look_again_soon(self, now: Now) -> None:
        self._alert = 2
        self._next_walk = min(self._next_walk, now.run + PAUSE)

    def _claim(self, now: Now, partition: PartitionId, record: HomeSet) -> bool:
        """Claim a partition if this is the first of its homes that answers, and nobody leads it."""
        clustering = self._clustering
        # Who is to become a home may not have heard of it, and would be waited for in vain.
        order = record.members if record.committed else (*record.old, *record.new)
        answering = (n for n in order if clustering.reachable(n) and not clustering.walls.far(now, n))
        if next(answering, None) != clustering.me:
            return False
        leader = clustering.leader_of(partition)
        if leader is not None and clustering.reachable(leader):
            self.strays.ask(partition, record, (leader,))
            return False
        clustering.cluster.want(now, partition, record)
        return True

    def _claim_unled(self, now: Now, partition: PartitionId) -> None:
        """Nobody was found to lead a partition."""
        clustering = self._clustering
        definition = self._broker.registry.definition_of(QueueId(partition[:8]))
        if partition == ROSTER:
            first = clustering.rosters.first
        elif definition is not None:
            first = clustering.first_homes(definition, int.from_bytes(partition[8:], "big"))
        else:
            return
        record = clustering.cluster.homes(partition, first)
        if clustering.me in record.members:
            self._claim(now, partition, record)
