"""Partitions that nobody uses are put in order, too: moved where they belong, compared when a home is back.

A partition is led when somebody asks for it.  One that nobody asks for, but whose home set is not what the
roster wants, or one of whose homes was away, is claimed by the first of its homes that answers; as its
leader that one does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dmqnode.clock import Now
from dmqnode.homesets import HomeSet
from dmqnode.ids import PartitionId, partition_id
from dmqnode.roster import ROSTER

if TYPE_CHECKING:
    from dmqnode.broker import Broker
    from dmqnode.clustering import Clustering

LOOK_AT = 1000
"""Partitions looked at in one step."""
CLAIM_AT_ONCE = 50
"""Partitions claimed in one step; moves and comparisons cost those that are in use."""


class Mender:
    """Walks over all partitions, again and again, a few at a time."""

    def __init__(self, broker: Broker, clustering: Clustering) -> None:
        self._broker = broker
        self._clustering = clustering
        self._walk: Iterator[tuple[PartitionId, HomeSet]] = iter(())
        self._compare_all = True
        """Whether this walk claims also what seems to be in order: a home came back before it began."""
        self._came_back = False

    def came_back(self) -> None:
        """A node is there again: what it holds may be behind."""
        self._came_back = True

    def step(self, now: Now) -> None:
        """Look at the next partitions."""
        claimed = 0
        for _ in range(LOOK_AT):
            found = next(self._walk, None)
            if found is None:
                self._walk = self._all()
                self._compare_all, self._came_back = self._came_back, False
                return
            claimed += self._mend(now, *found)
            if claimed >= CLAIM_AT_ONCE:
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

    def _mend(self, now: Now, partition: PartitionId, first: HomeSet) -> bool:
        """Claim one partition if that is this node's to do."""
        clustering = self._clustering
        record = clustering.cluster.homes(partition, first)
        if clustering.me not in record.members or self._led(partition):
            return False
        wanted = clustering.wanted(partition)
        in_order = record.committed and set(record.new) == set(wanted)
        if in_order and not self._compare_all:
            return False
        if (
            next(
                (n for n in record.members if clustering.reachable(n) and not clustering.walls.far(now, n)),
                None,
            )
            != clustering.me
        ):
            return False
        clustering.cluster.want(now, partition, record)
        return True

    def _led(self, partition: PartitionId) -> bool:
        leader = self._clustering.leader_of(partition)
        return leader is not None and self._clustering.reachable(leader)
