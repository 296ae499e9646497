"""Delayed messages whose delay is over: of groups and without, again and again, purged, and in numbers."""

from __future__ import annotations

import random

import pytest

from dmqnode.disk import perform_read
from dmqnode.messages import PurgeQueue, Receive
from dmqnode.partition import MAX_DUE
from dmqnode.ready import PARKED_BYTES
from tests.dmqnode.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("delay", [None, 1.0])
def test_attempts_count_in_a_batch_of_which_other_messages_have_groups(
    world: World, delay: float | None
) -> None:
    world.create("dead")
    world.create("q", max_attempts=3, dead_letter="dead", visibility=5.0)
    world.send(b"grouped", b"plain", delay=delay, g=(None, {0: "A"}))
    world.pass_time(2.0)
    world.ack([got for got in world.receive(10) if got.body == b"grouped"])
    attempts = []
    for _ in range(5):
        world.pass_time(6.0)
        attempts += [got.attempt for got in world.receive(10)]
    assert attempts == [2, 3]
    assert world.figures("dead")[0] == 1
    assert not world.partition().holds


@pytest.mark.parametrize(("settings", "delay"), [({}, 1.0), ({"ordering": "fifo", "delay": 1.0}, None)])
def test_what_is_in_memory_is_counted_however_often_it_comes(
    world: World, settings: dict[str, object], delay: float | None
) -> None:
    world.create("q", **settings)
    world.send(b"x" * (1 << 20), delay=delay, g="customer 7")
    world.pass_time(2.0)
    for _ in range(20):
        (held,) = world.receive(1)
        world.nack([held])
    ready = world.partition().ready
    assert 0 <= ready.cached < PARKED_BYTES
    for _ in range(300):
        world.send(b"y" * (64 << 10))
    world.receive(1)
    held_here = sum(len(stored.batch.blob) for stored in ready._waiting if stored.batch is not None)
    assert held_here <= PARKED_BYTES + (1 << 20)


def test_a_purge_while_the_index_is_read_hides_nothing_that_comes_later(world: World) -> None:
    world.create("q")
    for n in range(1100):
        world.send(b"old", delay=3600.0 + n)
    world.crash()
    world.request(Receive("q", 1, 1 << 20, 60.0, None))
    world.hold_writes = True
    broker, slow = world.broker, []
    for _ in range(100):
        if slow:
            break
        wanted = broker.reads.take_wanted()
        for number, read in wanted:
            queue = broker.registry.queues["q"]
            if queue.open and world.partition().due.reading and getattr(read, "limit", 0) == 1024:
                slow.append((number, perform_read(world.store, read)))
            else:
                broker.read_done(world.now(), number, perform_read(world.store, read))
        if not wanted:
            world.step()
    (index,) = slow
    world.hold_writes = False
    world.request(PurgeQueue("q"))
    world.run()
    world.send(b"next week", delay=7 * 86_400.0)
    broker.read_done(world.now(), *index)
    world.run()
    world.send(b"in two hours", delay=7200.0)
    found: list[tuple[bytes, bool]] = []
    for _ in range(130):
        world.pass_time(60.0)
        held = world.receive(10)
        found += [(got.body, world.time < 1000.0 + 7300.0) for got in held]
        world.ack(held)
    assert found == [(b"in two hours", True)]


def test_a_damaged_note_does_not_hide_what_is_delayed_no_longer(world: World) -> None:
    world.create("q", visibility=30.0)
    world.send(b"job", delay=1.0)
    world.pass_time(2.0)
    assert world.bodies() == [b"job"]
    world.restart()
    world.send(b"later", delay=10.0)
    world.pass_time(1.0)
    notes = world.partition().keys.prefix + b"n"
    (note,) = (row.key for row in world.store.scan(notes, notes + b"\xff", limit=9).rows)
    world.store.damage(note, random.Random(1))
    world.restart()
    found = []
    for _ in range(3):
        world.pass_time(60.0)
        held = world.receive()
        found += [got.body for got in held]
        world.ack(held)
    assert sorted(found) == [b"job", b"later"]


def test_what_nobody_takes_stays_on_disk_for_the_most_part(world: World) -> None:
    world.create("q")
    count = 4 * MAX_DUE
    for sequence in range(count):
        world.request(world.send_request([b"x"], delay=60.0 + sequence * 0.001, producer=b""))
        if not sequence % 1000:
            world.run()
    world.run()
    for _ in range(80):
        world.pass_time(1.0)
    partition = world.partition()
    assert partition.ready.again <= 2 * MAX_DUE
    assert len(partition.came_due) <= 3 * MAX_DUE
    taken = 0
    while held := world.receive(1000):
        taken += len(held)
        world.ack(held)
    assert taken == count
