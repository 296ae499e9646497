"""A debt is forgotten by its keepers only once enough homes have its messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dmqnode.following import Ranges
from dmqnode.ids import LogId, NodeId
from dmqnode.messages import Blob
from dmqnode.peer_messages import Debt, Offer
from dmqnode.ranges import RangeSet
from dmqnode.taking import Taking
from tests.dmqnode.world import World

KEEPER = NodeId(b"keeper--")


class Leading:
    """A node that leads the one partition of queue `q`, as far as debts see it."""

    def __init__(self, world: World) -> None:
        shard = world.broker.registry.queues["q"]
        self.entries: list[tuple[int, Ranges, Ranges]] = []
        self.hosted: Any = SimpleNamespace(
            served=lambda partition: shard,
            absent=SimpleNamespace(claimed=lambda *claim: None, owed=lambda now, partition: {}),
            keep_gaps=lambda hosted: None,
        )

    def replicate(
        self, now: Any, partition: Any, ops: Any, then: Any, brought: Ranges = (), relied: Ranges = ()
    ) -> None:
        self.entries.append((len(ops), brought, relied))


def test_what_the_leader_holds_already_is_not_brought_by_the_entry_and_must_be_on_enough_homes() -> None:
    world = World()
    world.create()
    world.send(b"a", b"b")
    partition = world.partition()
    (log,) = partition.logs
    record = world.store.get(partition.keys.batch(log, 0))
    assert record is not None
    clustering: Any = Leading(world)
    other = LogId(b"O" * len(log))
    debts = [Debt(id_, 0, b"", 0, 0, Blob(record)) for id_ in (log, other)]
    owed = [(id_, 2, RangeSet([(0, 2)]).encode()) for id_ in (log, other)]
    Taking(world.broker, clustering).take(world.now(), KEEPER, Offer(partition.id, debts, owed))
    assert clustering.entries == [(1, ((other, 0, 2),), ((log, 0, 2),))]
