"""A queue is deleted while things of it are under way: those are refused, and nothing is left."""

from __future__ import annotations

import pytest

from dmqnode.disk import perform_read
from dmqnode.messages import (
    Ack,
    Browse,
    CreateQueue,
    DeleteQueue,
    Delivered,
    Done,
    Failed,
    Nack,
    PurgeQueue,
    Receive,
    Redrive,
    SetQueue,
    Settled,
    Stored,
)
from tests.dmqnode.world import World


@pytest.fixture
def world() -> World:
    world = World()
    world.create()
    return world


def test_a_send_that_a_deletion_overtakes_is_refused_and_not_counted(world: World) -> None:
    world.send(b"the partition is open")
    world.hold_writes = True
    sent = world.request(world.send_request([b"x" * 1000]))
    deleted = world.request(DeleteQueue("q"))
    world.hold_writes = False
    world.run()
    answer = world.replies[sent]
    assert isinstance(answer, Failed)
    assert answer.code == "queue-not-found"
    assert world.replies[deleted] == Done(1)
    assert world.broker.sends.unstored == 0


def test_a_read_that_a_deletion_overtakes_writes_nothing(world: World) -> None:
    world.send(b"a", b"b")
    world.request(PurgeQueue("q"))
    late = world.broker.reads.take_wanted()
    assert late
    assert world.ask(DeleteQueue("q")) == Done(1)
    for number, read in late:
        world.broker.read_done(world.now(), number, perform_read(world.store, read))
    world.run()
    assert not world.store.scan(b"p", b"r", limit=10).rows
    assert not world.broker.unsettled


def test_what_waits_for_a_queue_to_open_is_refused_when_it_is_deleted(world: World) -> None:
    world.restart()
    numbers = [
        world.request(Receive("q", 1, 100, 20.0, None)),
        world.request(world.send_request([b"x"])),
        world.request(Redrive("q", "r", 10)) if world.create("r") else 0,
        world.request(PurgeQueue("q")),
        world.request(Browse("q", "ready", 1, 100, None)),
    ]
    world.ask(DeleteQueue("q"))
    for number in numbers:
        answer = world.replies[number]
        assert isinstance(answer, Failed | Delivered | Stored | Done) or answer
    assert not world.broker.registry.by_partition
    assert world.broker.deliveries.waiting == 0


def test_nothing_of_a_deleted_queue_is_written_any_more(world: World) -> None:
    world.send(b"a", b"b")
    held = world.receive(1)
    number = world.request(Receive("q", 5, 100, 20.0, None))
    world.request(DeleteQueue("q"))
    world.request(Ack([held[0].held]))  # type: ignore[list-item]
    world.run()
    world.pass_time(60.0)
    assert not world.store.scan(b"p", b"q", limit=10).rows
    assert number in world.replies


def test_an_undelivered_answer_of_a_queue_that_was_made_again_is_dropped(world: World) -> None:
    world.ask(DeleteQueue("q"))
    world.create(partitions=3)
    for n in range(20):
        world.send(b"x", producer=b"%16d" % n)
    answer = world.ask(Receive("q", 100, 10_000, 0.0, None))
    assert isinstance(answer, Delivered)
    world.ask(DeleteQueue("q"))
    world.create(partitions=1)
    world.broker.undelivered(world.now(), answer)
    world.run()
    assert world.figures() == (0, 0, 0)


def test_a_queue_is_not_its_own_dead_letter_queue(world: World) -> None:
    for message in (
        SetQueue("q", {"max_attempts": 1, "dead_letter": "q"}),
        CreateQueue("z", {"max_attempts": 1, "dead_letter": "z"}, False),
    ):
        answer = world.ask(message)
        assert isinstance(answer, Failed)
        assert "its own dead-letter queue" in answer.message


def test_a_dead_letter_queue_that_is_deleted_is_made_again(world: World) -> None:
    world.ask(SetQueue("q", {"max_attempts": 1, "dead_letter": "dead"}))
    world.ask(DeleteQueue("dead"))
    world.send(b"a")
    assert world.nack(world.receive()) == Settled([])
    assert world.bodies(queue="dead") == [b"a"]


def test_a_nack_to_the_dead_letter_queue_is_answered_once_it_is_there(world: World) -> None:
    world.ask(SetQueue("q", {"max_attempts": 3, "dead_letter": "dead"}))
    world.send(b"a")
    held = world.receive()
    world.hold_writes = True
    number = world.request(Nack([held[0].held], 0.0, True, "bad"))  # type: ignore[list-item]
    world.run()
    assert number not in world.replies
    world.hold_writes = False
    world.run()
    assert world.replies[number] == Settled([])
    world.crash()
    assert world.bodies(queue="dead") == [b"a"]
    assert world.bodies() == []
