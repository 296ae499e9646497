"""What is made again after a lost connection or a refusal for the moment, and what may not be."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode
from dmqnode.calls import CHANGE_NOTHING, NOT_REPEATED
from dmqnode.connection import REQUESTS
from dmqnode.errors import (
    LimitExceeded,
    QueueExists,
    Unknown,
)
from dmqnode.messages import (
    Ack,
    CreateQueue,
    DeleteQueue,
    Done,
    Extend,
    GetQueue,
    Message,
    Nack,
    PurgeQueue,
    Redrive,
    Send,
    SetQueue,
    Stored,
)
from tests.dmqnode.answering import LOG, PARTITION, TIMEOUT, connected

HELD = [(PARTITION, 7, LOG, 0, 1)]


# --- numbering -------------------------------------------------------------------------------------------


def test_the_floor_is_the_lowest_send_without_an_outcome() -> None:
    world = connected()
    for owner in range(3):
        world.core.send_batch(world.now, ("q", None, False), encode([b"x"]), owner + 1)
    world.carry()
    sends = [m for _, m in world.node.requests]
    assert [(m.sequence, m.floor) for m in sends if isinstance(m, Send)] == [(1, 1), (2, 1), (3, 1)]
    world.node.requests.append(world.node.requests.pop(0))
    world.node.store()
    world.node.store()
    world.carry()
    world.core.send_batch(world.now, ("q", None, False), encode([b"x"]), 4)
    world.carry()
    assert (world.node.requests[-1][1].sequence, world.node.requests[-1][1].floor) == (4, 1)  # type: ignore[attr-defined]
    world.node.store()
    world.carry()
    world.core.send_batch(world.now, ("q", None, False), encode([b"x"]), 5)
    world.carry()
    assert (world.node.requests[-1][1].sequence, world.node.requests[-1][1].floor) == (5, 4)  # type: ignore[attr-defined]


def test_a_send_is_repeated_under_its_number_after_a_lost_connection() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    (_, first) = world.node.take()
    world.lose()
    assert not world.outcomes
    assert world.core.wants_connection
    world.send(b"later")
    world.connect()
    world.carry()
    (_, again) = world.node.requests[0]
    assert again == first
    world.node.store()
    world.node.store()
    world.carry()
    assert world.outcome(b"a")[1] is None
    assert world.node.bodies == [b"a", b"later"]


def test_a_send_goes_by_the_newest_number_of_partitions_and_its_repetition_by_the_first() -> None:
    world = connected()

    def answer(spread: int) -> int:
        number, message = world.node.take()
        assert isinstance(message, Send)
        world.node.answer(number, Stored([(LOG, 0, 1)], 0, spread))
        world.carry()
        return message.spread

    world.send(b"a")
    world.carry()
    assert answer(4) == 0
    world.send(b"b")
    world.carry()
    world.lose()
    world.connect()
    world.carry()
    world.send(b"c", queue="other")
    world.carry()
    assert answer(8) == 4
    assert answer(0) == 0
    world.send(b"d")
    world.carry()
    world.lose()
    world.core._spreads["q"] = 9
    world.connect()
    world.carry()
    assert answer(0) == 8
    world.send(b"e")
    world.carry()
    assert answer(0) == 9


def test_a_send_that_goes_by_too_many_partitions_chooses_anew_unless_it_may_be_stored() -> None:
    world = connected()
    world.core._spreads["q"] = 4
    world.send(b"a")
    world.carry()
    world.node.refuse("no-partition", retryable=True)
    world.carry()
    world.wait(1.0)
    assert world.node.store().spread == 0
    world.core._spreads["q"] = 4
    world.send(b"b")
    world.carry()
    world.lose()
    world.connect()
    world.carry()
    for _ in range(2):
        assert world.node.refuse("no-partition", retryable=True).spread == 4  # type: ignore[attr-defined]
        world.carry()
        world.wait(1.1)
    world.wait(TIMEOUT)
    assert isinstance(world.outcome(b"b")[1], Unknown)


@pytest.mark.parametrize(
    "request_", [Ack(HELD), Nack(HELD, 0.0, False, ""), Extend(HELD, 9.0), GetQueue("q"), SetQueue("q", {})]
)
def test_what_may_be_repeated_is_and_says_so(request_: Message) -> None:
    world = connected()
    world.core.ask(world.now, request_, "me")
    world.carry()
    assert world.node.take()[1] == request_
    world.lose()
    world.connect()
    world.carry()
    _, again = world.node.take()
    assert type(again) is type(request_)
    if isinstance(again, Ack | Nack):
        assert again.again


@pytest.mark.parametrize("request_", [DeleteQueue("q"), PurgeQueue("q"), Redrive("q", None, 5)])
def test_what_may_not_be_repeated_is_unknown(request_: Message) -> None:
    world = connected()
    world.core.ask(world.now, request_, "me")
    world.carry()
    world.lose()
    error = world.outcome("me")[1]
    assert isinstance(error, Unknown)
    assert error.stored == "unknown"


def test_what_may_not_be_repeated_waits_for_a_node_if_it_has_not_left() -> None:
    world = connected()
    world.lose()
    world.core.ask(world.now, DeleteQueue("q"), "me")
    world.connect()
    world.carry()
    world.node.answer(world.node.take()[0], Done(1))
    world.carry()
    assert world.outcome("me") == (Done(1), None)


def test_exists_is_unknown_to_a_create_that_is_repeated() -> None:
    world = connected()
    world.core.ask(world.now, CreateQueue("q", {}, False), "me")
    world.carry()
    world.lose()
    world.connect()
    world.carry()
    world.node.refuse("queue-exists")
    world.carry()
    assert isinstance(world.outcome("me")[1], Unknown)
    world.core.ask(world.now, CreateQueue("q", {}, False), "again")
    world.carry()
    world.node.refuse("queue-exists")
    world.carry()
    assert isinstance(world.outcome("again")[1], QueueExists)


def test_every_request_has_its_rule() -> None:
    assert (CHANGE_NOTHING | NOT_REPEATED) <= REQUESTS
    assert not CHANGE_NOTHING & NOT_REPEATED


# --- refusals for the moment -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["overloaded", "stopping", "unavailable"])
def test_a_refusal_for_the_moment_is_made_again_later(code: str) -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.node.refuse(code, retryable=True)
    world.carry()
    assert not world.outcomes
    assert not world.node.requests
    world.wait(0.1)
    world.node.store()
    world.carry()
    assert world.outcome(b"a")[1] is None


def test_its_deadline_tells_the_last_refusal() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    while not world.has(b"a"):
        if world.node.requests:
            world.node.refuse("overloaded", retryable=True)
            world.carry()
        world.wait(0.5)
    error = world.outcome(b"a")[1]
    assert isinstance(error, LimitExceeded)
    assert error.code == "overloaded"
    assert world.now <= TIMEOUT + 1


def test_a_full_disk_is_told_at_once() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.node.refuse("disk-full", retryable=True)
    world.carry()
    error = world.outcome(b"a")[1]
    assert isinstance(error, LimitExceeded)
    assert error.retryable


def test_a_refusal_does_not_undo_the_doubt_of_an_earlier_attempt() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.lose()
    world.connect()
    world.carry()
    world.node.refuse("disk-full", retryable=True)
    world.carry()
    assert isinstance(world.outcome(b"a")[1], Unknown)
