"""What happens now and then: queues are closed and opened again, space is given back."""

from __future__ import annotations

import pytest

from dmqnode import upkeep
from dmqnode.dedup import PRODUCER_BYTES
from tests.dmqnode.several import Several
from tests.dmqnode.world import World


def logs_on_disk(world: World) -> int:
    return sum(row.key[11:12] == b"l" for row in world.store.scan(b"p", b"q", limit=100_000).rows)


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    return world


def idle(world: World) -> None:
    """Let time pass until the queue was closed; it may have been opened again to be looked at."""
    queue = world.broker.registry.queues["q"]
    before = queue.partitions
    world.pass_time(upkeep.CLOSE_AFTER)
    for _ in range(60):
        if queue.partitions is not before:
            return
        world.pass_time(upkeep.PERIOD)
    raise AssertionError("the queue stays open")


def test_a_queue_that_is_closed_and_used_again_goes_on_with_its_logs(world: World) -> None:
    ids = []
    for n in range(6):
        ids += world.send(b"%d" % n)
        ids += world.send(b"late %d" % n, delay=1.0)
        world.pass_time(2.0)
        if n % 2:
            while held := world.receive(100):
                world.ack(held)
        idle(world)
    assert logs_on_disk(world) == 2
    assert len(set(ids)) == len(ids)
    assert world.bodies(100) == []
    more = [world.send(b"x")[0] for _ in range(3)]
    assert not set(more) & set(ids)
    world.crash()
    assert world.bodies(100) == [b"x"] * 3


def test_what_lives_in_a_log_that_is_gone_on_with_is_delivered_in_order(world: World) -> None:
    for n in range(4):
        world.send(b"%d" % n)
        idle(world)
    assert logs_on_disk(world) == 1
    assert world.bodies() == [b"0", b"1", b"2", b"3"]


def test_a_restart_begins_logs_of_its_own(world: World) -> None:
    (first,) = world.send(b"a")
    idle(world)
    world.restart()
    (second,) = world.send(b"b")
    assert first[0] != second[0]
    assert world.bodies() + world.bodies() == [b"a", b"b"]


def test_a_log_whose_end_is_not_certain_is_not_gone_on_with(world: World) -> None:
    (first,) = world.send(b"a")
    state = world.partition().keys.state()
    idle(world)
    world.store._records[state] = world.store._records[state][:-1] + b"?"
    (second,) = world.send(b"b")
    assert first[0] != second[0] or second[1] > first[1]
    assert world.bodies() == [b"a", b"b"]


def test_what_is_remembered_for_who_is_away_stays_within_its_part_of_the_memory_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Several("n1", "n2", "n3")
    room = 40 * PRODUCER_BYTES
    monkeypatch.setattr(upkeep, "AWAITED", cluster.nodes["n1"].broker.config.memory_limit / room)
    cluster.create()
    cluster.kill("n3")
    for n in range(100):
        cluster.stored("n1", b"x", producer=b"%016d" % n)
        cluster.run(8.0)
    queues = [q for n in cluster.nodes.values() if n.up for q in n.broker.registry.queues.values()]
    remembered = max(len(p.dedup) for q in queues for p in q.partitions)
    assert 300 / 8 - 1 < remembered < 60, "all of five minutes, and of what was before only a part"
