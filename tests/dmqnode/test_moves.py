"""Messages move to the dead-letter queue and back: whole, once, and with what is to be known of them."""

from __future__ import annotations

import random

import pytest

from dmqnode.messages import Done, Failed, Redrive, SetQueue
from dmqnode.moves import MAX_REDRIVE
from tests.dmqnode.world import World


def given_up(*bodies: bytes, **options: object) -> World:
    """Return a world with messages that were delivered as often as they may be."""
    world = World()
    world.create("dead")
    world.create(max_attempts=1, dead_letter="dead", visibility=5.0)
    world.send(*bodies, **options)
    world.receive(len(bodies))
    world.pass_time(6.0)
    return world


def test_what_was_given_up_is_in_the_other_queue_with_why_and_whence() -> None:
    world = given_up(b"a", b"b", a={"k": "v"})
    moved = world.receive(queue="dead")
    assert [m.body for m in moved] == [b"a", b"b"]
    for message in moved:
        attributes = message.attributes
        assert (attributes["k"], attributes["dmq.source"], attributes["dmq.attempts"]) == ("v", "q", "1")
        assert attributes["dmq.source-id"]
        assert attributes["dmq.reason"]
    assert world.figures() == (0, 0, 0)
    assert world.broker.counters.dead_lettered == 2


@pytest.mark.parametrize("crash", [False, True])
def test_a_message_is_in_one_of_the_two_queues_after_a_restart(crash: bool) -> None:
    world = given_up(b"a")
    (world.crash if crash else world.restart)()
    assert world.figures() == (0, 0, 0)
    assert [m.body for m in world.receive(queue="dead")] == [b"a"]


def test_a_redrive_brings_it_back_with_a_fresh_count_and_without_the_notes() -> None:
    world = given_up(b"a", a={"k": "v"})
    answer = world.ask(Redrive("dead", None, 10))
    assert isinstance(answer, Done)
    assert answer.count == 1
    (message,) = world.receive()
    assert (message.body, message.attempt, message.attributes) == (b"a", 1, {"k": "v"})
    assert world.figures("dead") == (0, 0, 0)


def test_a_redrive_goes_where_it_is_told_and_takes_no_more() -> None:
    world = given_up(b"a", b"b", b"c")
    world.create("other")
    answer = world.ask(Redrive("dead", "other", 2))
    assert isinstance(answer, Done)
    assert answer.count == 2
    assert world.figures("dead")[0] == 1
    assert sorted(m.body for m in world.receive(queue="other")) == [b"a", b"b"]


def test_what_cannot_be_redriven_is_refused() -> None:
    world = given_up(b"a")
    for request, code in (
        (Redrive("dead", "dead", 1), "invalid"),
        (Redrive("dead", "nowhere", 1), "queue-not-found"),
        (Redrive("dead", None, 0), "invalid"),
        (Redrive("dead", None, MAX_REDRIVE + 1), "invalid"),
    ):
        answer = world.ask(request)
        assert isinstance(answer, Failed)
        assert answer.code == code


def test_a_dead_letter_queue_that_does_not_exist_is_made() -> None:
    world = World()
    world.create(max_attempts=1, dead_letter="dead", visibility=5.0)
    world.send(b"a")
    world.receive()
    world.pass_time(6.0)
    assert [m.body for m in world.receive(queue="dead")] == [b"a"]


def test_without_a_dead_letter_queue_it_is_delivered_again() -> None:
    world = World()
    world.create(max_attempts=1, dead_letter="dead", visibility=5.0)
    world.send(b"a")
    world.receive()
    world.ask(SetQueue("q", {"dead_letter": None, "max_attempts": None}))
    world.pass_time(6.0)
    (message,) = world.receive()
    assert (message.body, message.attempt) == (b"a", 2)


def test_what_is_damaged_when_it_is_to_move_is_lost_and_counted_and_the_rest_moves() -> None:
    world = World()
    world.create("dead")
    world.create(max_attempts=1, dead_letter="dead", visibility=5.0)
    for body in (b"a", b"b"):
        world.send(body)
        world.pass_time(1.0)
    world.receive()
    world.store.damage(world.on_disk()[0], random.Random(1))
    world.pass_time(6.0)
    assert [m.body for m in world.receive(queue="dead")] == [b"b"]
    assert world.broker.counters.lost == 1
    assert world.figures() == (0, 0, 0)
