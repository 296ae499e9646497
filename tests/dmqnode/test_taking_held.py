"""A debt is forgotten by its keepers only once enough homes have its messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode.batch import encode, parse
from dmqnode.debts import encode_debt
from dmqnode.following import Ranges
from dmqnode.ids import LogId, NodeId, partition_id
from dmqnode.keys import DEBTS
from dmqnode.messages import Blob
from dmqnode.peer_messages import Debt, Offer, Taken
from dmqnode.ranges import RangeSet
from dmqnode.records import encode_batch
from dmqnode.smallrows import encode_gaps, gaps_key
from dmqnode.taking import Taking
from storage.ops import WriteBatch
from tests.dmqnode.several import WALL, Several
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


def test_what_repeats_a_dedup_id_is_kept_until_the_first_is_on_enough_homes() -> None:
    """It died at once, and was forgotten, in favour of what one disk may have had."""
    world = World()
    world.create()
    world.send(b"a")
    partition = world.partition()
    (log,) = partition.logs
    partition.dedup.remember_name("x", log, 0, world.now().wall // 60_000)
    partition.logs[log].gaps.add(0, 1)
    other = LogId(b"O" * len(log))
    record = Blob(encode_batch(world.now().wall, 0, parse(encode([b"x"], {"d": ("x", {})}).blob)))
    offer = Offer(partition.id, [Debt(other, 0, b"q" * 16, 1, 0, record)], [(other, 1, RangeSet().encode())])
    spread, lost = False, False
    clustering: Any = Leading(world)
    clustering.cluster = SimpleNamespace(
        streams=SimpleNamespace(
            spread=lambda *_: spread,
            nowhere=lambda _, ranges: ranges if lost else (),
            unshown=lambda *_: {},
            whole=lambda *_: True,
        )
    )
    taking = Taking(world.broker, clustering)
    taking.take(world.now(), KEEPER, offer)
    assert clustering.entries == [(0, (), ())], "nothing is taken in"
    spread = True
    taking.take(world.now(), KEEPER, offer)
    assert clustering.entries[-1] == (0, (), ((log, 0, 1),)), "it dies once that is safe"
    spread, lost = False, True
    taking.take(world.now(), KEEPER, offer)
    assert clustering.entries[-1] == (1, ((other, 0, 1),), ()), "it stands for what is lost"


@pytest.mark.parametrize("keepers", [1, 2])
def test_what_is_damaged_where_it_was_taken_in_is_kept_by_who_owes_it(
    keepers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was called taken, and forgotten by all who had it: no home had it to wait for."""
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"a")
    cluster.run(3.0)
    (queue,) = cluster.nodes["n1"].broker.registry.every()
    partition = partition_id(queue.definition.id, 0)
    leader = cluster.leader(partition)
    others = [node for node in cluster.nodes.values() if node is not leader]
    log = LogId(others[0].me + b"L" * (20 - len(others[0].me)))
    record = Blob(encode_batch(WALL + round(cluster.time * 1000), 0, parse(encode([b"owed"], {}).blob)))
    carry, told = Several.carry, list[bool]()

    def lossy(self: Several, sender: str, to: NodeId, message: Any) -> None:
        if told or not isinstance(message, Taken):
            carry(self, sender, to, message)

    monkeypatch.setattr(Several, "carry", lossy)
    for node in others[:keepers]:
        ops = WriteBatch()
        ops.put(DEBTS + partition + log + bytes(8), encode_debt(Debt(log, 0, b"q" * 16, 1, 0, record)))
        node.store.write(ops, sync=True)
        node.clustering.debts.load(cluster.now())
        node.crank()
    cluster.run(6.05)  # it is offered anew before the leader finds that it is damaged
    (hosted,) = leader.clustering.hosted.shards[partition].partitions
    key, gaps = hosted.keys.batch(log, 0), {log: RangeSet([(0, 1)])}
    assert leader.store.get(key) is not None
    stream = leader.clustering.cluster.streams.of(partition)
    assert stream is not None
    for node in cluster.nodes.values():
        rows = WriteBatch()
        rows.delete(key)
        if node is not leader:  # the entry had not come to them
            rows.put(gaps_key(hosted.keys), encode_gaps(gaps))
            copy = node.clustering.cluster.copies.find(partition)
            assert copy is not None
            copy.gaps = stream.followers[node.me].gaps = {log: RangeSet([(0, 1)])}
        node.store.write(rows, sync=True)
    told.append(True)
    cluster.run(70.0)
    bodies = [message.body for _ in range(2) for message in cluster.receive("n1", wait=2.0)]
    assert sorted(bodies) == [b"a", b"owed"]
    assert [node.broker.counters.lost for node in cluster.nodes.values()] == [0, 0, 0]
    assert not any(node.clustering.debts.count for node in others)
