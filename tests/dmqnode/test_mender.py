"""Who claims what nobody uses, and how fast: at once when a home is back, else one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dmqnode import mender
from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import LOOK_EVERY, Clustering
from dmqnode.homesets import HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.mender import Mender

ME, OTHER = NodeId(bytes(8)), NodeId(bytes(7) + b"\x01")
QUEUES = 200


class Around:
    """A node of two that is the first home of every partition; whoever claims one gets it, and rests."""

    def __init__(self) -> None:
        self.me = ME
        self.claims: list[PartitionId] = []
        self.homes = (ME, OTHER)
        self.run = 0.0
        queues = [
            SimpleNamespace(
                definition=SimpleNamespace(id=n.to_bytes(8, "big"), settings=SimpleNamespace(partitions=1))
            )
            for n in range(1, QUEUES + 1)
        ]
        registry = SimpleNamespace(every=lambda: queues, definition_of=lambda id_: id_)
        self.cluster = SimpleNamespace(homes=lambda partition, first: first, want=self._want, grants=())
        self.rosters = SimpleNamespace(first=HomeSet.first(self.homes), scarce=False)
        self.walls = SimpleNamespace(far=lambda now, node: False)
        self.catalog = SimpleNamespace(deletions={})
        identity = SimpleNamespace(first_question=0)
        broker = SimpleNamespace(registry=registry, identity=identity)
        self.mender = Mender(cast(Broker, broker), cast(Clustering, self))

    def first_homes(self, definition: Any, index: int) -> HomeSet:
        return HomeSet.first((ME, OTHER))

    def wanted(self, partition: PartitionId) -> tuple[NodeId, ...]:
        return self.homes

    def leader_of(self, partition: PartitionId) -> NodeId | None:
        return None

    def reachable(self, node: NodeId) -> bool:
        return True

    def _want(self, now: Now, partition: PartitionId, record: HomeSet) -> None:
        self.claims.append(partition)

    def steps(self, seconds: float) -> int:
        """Let time pass; return how many claims were made."""
        before = len(self.claims)
        until = self.run + seconds
        while self.run < until:
            self.mender.step(Now(self.run, 0))
            self.run += LOOK_EVERY
        return len(self.claims) - before


def test_what_nobody_uses_is_visited_one_by_one_and_then_left_alone_for_long() -> None:
    around = Around()
    assert 1 <= around.steps(10.0) <= 10 / LOOK_EVERY
    around.steps(QUEUES * LOOK_EVERY)
    assert len(set(around.claims)) == QUEUES + 1  # the roster's partition, too
    assert around.steps(mender.VISIT_EVERY - around.run) == 0
    assert around.steps(10.0) > 1


def test_everything_is_claimed_soon_when_a_home_is_back_and_once_more_for_what_was_refused() -> None:
    around = Around()
    around.steps(mender.VISIT_EVERY - 10.0)
    around.claims.clear()
    around.mender.came_back()
    around.steps((QUEUES / mender.CLAIM_AT_ONCE + 3) * LOOK_EVERY)
    assert len(set(around.claims)) == QUEUES + 1
    around.steps(2 * mender.PAUSE)
    assert all(around.claims.count(p) >= mender.COMPARE_TWICE for p in set(around.claims))


def test_the_second_time_comes_later_though_something_changes_meanwhile() -> None:
    around = Around()
    around.steps(mender.VISIT_EVERY - 30.0)
    around.mender.came_back()
    around.steps(LOOK_EVERY)
    around.mender.changed()
    around.steps(mender.PAUSE - 2 * LOOK_EVERY)
    around.claims.clear()  # whoever would have granted had just started, and granted nothing
    around.steps(mender.PAUSE)
    assert len(set(around.claims)) == QUEUES + 1
    around.claims.clear()
    assert around.steps(10.0) == 0


def test_what_is_not_where_it_should_be_is_claimed_until_it_is() -> None:
    around = Around()
    around.steps(mender.VISIT_EVERY - 100.0)
    around.claims.clear()
    around.homes = (OTHER, ME, NodeId(bytes(7) + b"\x02"))
    around.steps(mender.CALM_PAUSE + 5 * mender.PAUSE)
    assert all(around.claims.count(p) >= 4 for p in set(around.claims))
    assert len(set(around.claims)) == QUEUES + 1


def test_an_unfinished_change_is_finished_by_an_old_home_for_a_new_one_may_not_have_heard_of_it() -> None:
    around = Around()
    around.homes = (OTHER, ME)
    record = HomeSet.first((ME,)).change(LeaseNumber(1, ME), around.homes)
    around.cluster.homes = lambda partition, first: record
    around.steps(1.0)
    assert around.claims
