"""Ending deliveries: what is named as failed is exactly what failed."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.errors import PartlyFailed
from dmqnode.messages import Ack, Extend, Message, Nack, Receive, SetQueue, Settled
from dmqnode.questions import Question, ack, extend, nack
from dmqnode.received import Received, unpack
from tests.dmqnode.world import World


@pytest.fixture
def world() -> World:
    world = World()
    world.create(visibility=30)
    return world


def taken(world: World, count: int = 5) -> list[Received]:
    """Send `count` messages in one batch; receive them in one delivery."""
    world.send(*[b"%d" % n for n in range(count)])
    answer = world.ask(Receive("q", 100, 1 << 20, 0.0, None))
    return unpack(Received, None, "q", answer.parts)  # type: ignore[union-attr]


def put(world: World, question: Question[None]) -> list[int]:
    """Have a node answer what a client asks; return which messages are said to have failed."""
    answer: Any = None
    try:
        while True:
            answer = world.ask(question.send(answer))
    except StopIteration:
        return []
    except PartlyFailed as error:
        return [n for n, _ in error.failures]


@pytest.mark.parametrize("dead_letter", [False, True])
def test_a_nack_of_a_range_names_the_messages_that_were_settled_before(
    world: World, dead_letter: bool
) -> None:
    world.ask(SetQueue("q", {"max_attempts": 9, "dead_letter": "dead"}))
    messages = taken(world)
    assert put(world, ack(messages[1])) == []
    assert put(world, nack(messages, 0.0, dead_letter, "why")) == [1]
    there = world.bodies(queue="dead" if dead_letter else "q")
    assert sorted(there) == [b"0", b"2", b"3", b"4"]
    assert world.broker.counters.nacked == 4


def test_an_ack_and_an_extend_of_a_range_name_them_too(world: World) -> None:
    messages = taken(world)
    put(world, nack(messages[3], 60.0, False, ""))
    assert put(world, extend(messages, 100)) == [3]
    assert put(world, ack(messages)) == [3]
    assert world.broker.counters.acked == 4


def test_a_range_is_given_back_as_a_whole_or_not_at_all(world: World) -> None:
    messages = taken(world)
    put(world, ack(messages[4]))
    origin = messages[0].origin
    answer = world.ask(Nack([(origin.partition, origin.delivery, origin.log, 0, 5)], 0.0, False, ""))
    assert isinstance(answer, Settled)
    ((index, code, why),) = answer.failed
    assert (index, code) == (0, "stale-receipt")
    assert "1 of 5 messages" in why
    assert world.figures() == (0, 0, 4)


def held(message: Received, low: int, count: int) -> list[Any]:
    origin = message.origin
    return [(origin.partition, origin.delivery, origin.log, low, count)]


@pytest.mark.parametrize(
    ("settle", "says"),
    [
        (lambda world, m: world.ask(Ack(held(m, 0, 1))), "already acked"),
        (lambda world, m: world.ask(Nack(held(m, 0, 1), 0.0, False, "")), "no longer held by this delivery"),
        (lambda world, m: world.pass_time(31), "its visibility ended"),
    ],
)
def test_a_stale_receipt_says_why(world: World, settle: Any, says: str) -> None:
    message = taken(world)[0]
    settle(world, message)
    requests: list[Message] = [
        Ack(held(message, 0, 1)), Nack(held(message, 0, 1), 0.0, False, ""), Extend(held(message, 0, 1), 9.0)
    ]  # fmt: skip
    for request in requests:
        answer = world.ask(request)
        assert isinstance(answer, Settled)
        assert says in answer.failed[0][2]


def test_whether_a_repeated_ack_was_done_is_unknown_where_the_delivery_is_not_known(world: World) -> None:
    """Whoever led before may have done it, and bring it: that the message comes again would be wrong."""
    message = taken(world)[0]
    world.pass_time(31)
    for again, code in ((False, "stale-receipt"), (True, "unknown")):
        answer = world.ask(Ack(held(message, 0, 1), again))
        assert isinstance(answer, Settled)
        assert [failed[1] for failed in answer.failed] == [code]


def test_what_an_ack_does_itself_is_not_taken_for_done_before(world: World) -> None:
    message = taken(world)[0]
    put(world, ack(message))
    origin = message.origin
    assert world.ask(Extend(held(message, 1, 2), 100.0)) == Settled([])
    world.pass_time(31)  # 3 and 4 come again
    for again, code in ((False, "stale-receipt"), (True, "unknown")):
        answer = world.ask(Ack([(origin.partition, origin.delivery, origin.log, 0, 4)], again))
        assert isinstance(answer, Settled)
        ((_, found, why),) = answer.failed
        assert found == code
        assert "nothing is left to do" not in why


def test_a_repeated_ack_takes_what_is_dead_for_done(world: World) -> None:
    message = taken(world)[0]
    assert world.ask(Ack(held(message, 0, 5))) == Settled([])
    assert world.ask(Ack(held(message, 0, 5), True)) == Settled([])
    assert world.ask(Ack(held(message, 0, 5))) != Settled([])


def test_a_repeated_nack_takes_what_is_with_others_for_given_back(world: World) -> None:
    message = taken(world)[0]
    assert world.ask(Nack(held(message, 0, 2), 60.0, False, "")) == Settled([])
    assert world.ask(Nack(held(message, 0, 2), 60.0, False, "", True)) == Settled([])
    assert world.ask(Nack(held(message, 0, 2), 60.0, False, "")) != Settled([])
    assert world.ask(Ack(held(message, 2, 1))) == Settled([])
    assert world.ask(Nack(held(message, 0, 4), 0.0, False, "", True)) == Settled([])
    assert world.broker.counters.nacked == 3
    assert world.bodies() == [b"3"]  # 0 and 1 wait for their delay, 2 is acked, 4 is held
    assert world.ask(Nack(held(message, 4, 9), 0.0, False, "", True)) != Settled([])


def test_what_nobody_had_was_no_attempt(world: World) -> None:
    world.ask(SetQueue("q", {"max_attempts": 1, "dead_letter": "dead"}))
    message = taken(world)[0]
    assert world.ask(Nack(held(message, 0, 2), 0.0, False, "", False, True)) == Settled([])
    assert world.ask(Nack(held(message, 0, 3), 0.0, False, "", True, True)) == Settled([])
    assert world.broker.counters.nacked == 0
    assert [(m.body, m.attempt) for m in world.receive()] == [(b"0", 1), (b"1", 1), (b"2", 1)]


def test_a_repeated_nack_to_the_dead_letter_queue_is_done_only_if_they_went_there(world: World) -> None:
    world.ask(SetQueue("q", {"max_attempts": 9, "dead_letter": "dead"}))
    message = taken(world)[0]
    assert world.ask(Nack(held(message, 0, 2), 0.0, True, "")) == Settled([])
    assert world.ask(Nack(held(message, 0, 2), 0.0, True, "", True)) == Settled([])
    assert world.ask(Nack(held(message, 2, 1), 0.0, False, "")) == Settled([])
    assert world.ask(Nack(held(message, 2, 1), 0.0, True, "", True)) != Settled([])


def test_a_repeated_extend_holds_on(world: World) -> None:
    message = taken(world)[0]
    for _ in range(2):
        assert world.ask(Extend(held(message, 0, 5), 100.0)) == Settled([])
    world.pass_time(99)
    assert world.bodies() == []
