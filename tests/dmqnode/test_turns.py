"""Sends whose order matters go one after the other, whatever becomes of each."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.batch import encode_rows, parse
from dmqnode.errors import LimitExceeded
from dmqnode.messages import Send
from tests.dmqnode.answering import World, connected

GROUP = {"g": "one"}


def bodies(message: Any) -> list[bytes]:
    assert isinstance(message, Send)
    return parse(message.batch).bodies()


def send(world: World, body: bytes, queue: str = "q") -> None:
    """Send one message of the group."""
    world.core.send(world.now, (queue, None, False), body, GROUP, body)


def under_way(world: World) -> list[list[bytes]]:
    return [bodies(message) for _, message in world.node.requests]


def finish(world: World) -> list[bytes]:
    """Store whatever comes, until nothing does; return it in the order in which it was stored."""
    for _ in range(100):
        world.carry()
        if world.node.requests:
            world.node.store()
        else:
            world.wait(0.1)
    return world.node.bodies


@pytest.mark.parametrize("code", ["overloaded", "unavailable", "stopping"])
def test_none_overtakes_one_that_is_refused_for_a_moment(code: str) -> None:
    world = connected()
    for n in range(5):
        send(world, b"%d" % n)
        world.carry()
    assert under_way(world) == [[b"0"]]
    world.node.refuse(code, retryable=True)
    world.carry()
    assert under_way(world) == [], "it waits to be made again, and the others for it"
    assert finish(world) == [b"0", b"1", b"2", b"3", b"4"]


def test_whole_batches_take_turns_as_well() -> None:
    world = connected()
    for n in range(3):
        batch = encode_rows([(b"%d" % n, GROUP)])
        world.core.send_batch(world.now, ("q", None, False), batch, n)
    world.carry()
    assert under_way(world) == [[b"0"]]
    world.node.refuse("overloaded", retryable=True)
    assert finish(world) == [b"0", b"1", b"2"]


def test_other_messages_and_other_queues_need_not_wait() -> None:
    world = connected()
    for n in range(3):
        world.core.send_batch(world.now, ("q", None, False), encode_rows([(b"%d" % n, GROUP)]), n)
    world.send(b"plain")
    send(world, b"other", queue="r")
    world.carry()
    assert sorted(under_way(world)) == [[b"0"], [b"other"], [b"plain"]]


def test_a_message_with_a_group_does_not_join_those_without() -> None:
    world = connected()
    world.core.send_batch(world.now, ("q", None, False), encode_rows([(b"0", GROUP)]), 0)
    world.send(b"plain")
    send(world, b"1")
    world.carry()
    assert under_way(world) == [[b"0"], [b"plain"]]
    assert finish(world) == [b"0", b"plain", b"1"]


def test_a_queue_that_says_that_it_is_fifo_gets_one_at_a_time() -> None:
    world = connected()
    world.send(b"first")
    world.carry()
    world.node.store(ordered=True)
    world.carry()
    for n in range(4):
        world.send(b"%d" % n)
        world.carry()
    assert under_way(world) == [[b"0"]]
    assert finish(world) == [b"first", b"0", b"1", b"2", b"3"]


def test_the_next_goes_on_when_one_is_given_up() -> None:
    world = connected()
    send(world, b"0")
    world.carry()
    send(world, b"1")
    world.node.refuse("disk-full")
    world.carry()
    assert isinstance(world.outcome(b"0")[1], LimitExceeded)
    assert finish(world) == [b"1"]


def test_the_halves_of_a_group_that_is_refused_keep_their_order() -> None:
    world = connected()
    send(world, b"0")
    world.carry()
    for n in range(1, 5):
        send(world, b"%d" % n)
    world.node.store()
    world.carry()
    assert under_way(world) == [[b"1", b"2", b"3", b"4"]]
    send(world, b"5")
    world.node.refuse("too-large")
    world.carry()
    assert under_way(world) == [[b"1", b"2"]]
    assert finish(world) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_lost_connection_keeps_the_order() -> None:
    world = connected()
    for n in range(3):
        send(world, b"%d" % n)
        world.carry()
    world.lose()
    world.wait(1.0)
    world.connect()
    world.carry()
    assert under_way(world) == [[b"0"]]
    assert finish(world) == [b"0", b"1", b"2"]
