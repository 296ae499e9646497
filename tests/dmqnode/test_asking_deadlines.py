"""What is known when time is over, and of receives that are."""

from __future__ import annotations

import pytest

from dmqnode.asking import FIRST_PATIENCE
from dmqnode.errors import (
    NotAuthorized,
    ProtocolError,
    Unavailable,
    Unknown,
)
from dmqnode.messages import (
    Done,
    Failed,
    GetQueue,
    Nack,
    Receive,
)
from tests.dmqnode.answering import LOG, PARTITION, TIMEOUT, World, bodies, connected, delivered

RECEIVE = Receive("q", 10, 1 << 20, 20.0, None)


# --- deadlines -------------------------------------------------------------------------------------------


def test_a_send_that_left_is_unknown_when_its_time_is_over() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.wait(TIMEOUT)
    assert isinstance(world.outcome(b"a")[1], Unknown)
    world.node.store()
    world.carry()
    assert len(world.outcomes) == 1


def test_a_send_that_never_left_is_certainly_not_stored() -> None:
    world = connected()
    world.lose()
    world.send(b"a")
    world.wait(TIMEOUT)
    error = world.outcome(b"a")[1]
    assert isinstance(error, Unavailable)
    assert error.stored == "no"
    world.connect()
    world.carry()
    assert not world.node.requests


def test_those_who_travel_together_have_their_own_deadlines() -> None:
    world = connected()
    world.lose()
    world.send(b"early")
    world.wait(TIMEOUT / 2)
    world.send(b"late")
    world.wait(TIMEOUT / 2)
    assert world.has(b"early")
    assert not world.has(b"late")
    world.connect()
    world.carry()
    assert bodies(world.node.store()) == [b"late"]
    world.carry()
    assert world.outcome(b"late")[1] is None


def test_a_question_without_an_answer_is_unavailable() -> None:
    world = connected()
    world.core.ask(world.now, GetQueue("q"), "me")
    world.carry()
    world.wait(TIMEOUT)
    assert isinstance(world.outcome("me")[1], Unavailable)


def test_until_a_first_node_answers_patience_is_short() -> None:
    world = World("a:1", "b:2")
    world.send(b"a")
    dials = 0
    while not world.has(b"a"):
        world.now = max(world.now, world.core.dial_at)
        assert world.core.wants_connection
        world.core.dial_failed(world.now, "connection refused")
        world.outcomes += world.core.take_outcomes()
        dials += 1
    error = world.outcome(b"a")[1]
    assert isinstance(error, Unavailable)
    assert str(error) == "no node is reachable at a:1, b:2: connection refused; is one running there?"
    assert FIRST_PATIENCE <= world.now < FIRST_PATIENCE + 3
    assert dials < 20


def test_a_node_that_does_not_say_welcome_is_left() -> None:
    world = World()
    world.core.connected(0.0)
    world.send(b"a")
    world.core.data_to_send(0.0)
    world.core.tick(world.core.next_deadline())
    assert world.core.link.connection is not None
    world.core.tick(10.0)
    assert world.core.link.ended


def test_being_turned_away_is_the_outcome_of_every_call() -> None:
    world = World()
    world.send(b"a")
    world.core.ask(world.now, GetQueue("q"), "me")
    world.connect(turn_away=Failed("not-authorized", "show a token", False))
    world.carry()
    assert isinstance(world.outcome(b"a")[1], NotAuthorized)
    assert isinstance(world.outcome("me")[1], NotAuthorized)
    assert world.core.link.ended


def test_bytes_that_are_not_the_protocol_end_the_connection() -> None:
    world = World()
    world.send(b"a")
    world.core.connected(0.0)
    world.core.receive_data(0.0, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
    assert world.core.link.ended


def test_an_answer_of_the_wrong_kind_is_the_nodes_fault() -> None:
    world = connected()
    world.core.ask(world.now, GetQueue("q"), "me")
    world.carry()
    world.node.answer(world.node.take()[0], Done(1))
    world.carry()
    assert isinstance(world.outcome("me")[1], ProtocolError)
    assert world.core.link.ended


# --- receiving -------------------------------------------------------------------------------------------


def test_a_cancelled_receive_gives_back_what_it_brings() -> None:
    world = connected()
    call = world.core.ask(world.now, RECEIVE, "me", 100.0)
    world.carry()
    world.core.withdraw(call, "me")
    world.carry()
    number, _ = world.node.take()
    assert world.node.cancelled == [number]
    assert world.core.routes.parting
    world.node.answer(number, delivered(b"a", b"b"))
    world.carry()
    nack = world.node.settle()
    assert nack == Nack([(PARTITION, 7, LOG, 0, 2)], 0.0, False, "")
    world.carry()
    assert not world.core.routes.parting
    assert not world.outcomes


def test_a_receive_that_is_repeated_waits_for_the_rest_of_its_time() -> None:
    world = connected()
    world.core.ask(world.now, RECEIVE, "me", 100.0)
    world.carry()
    world.wait(5.0)
    world.lose()
    world.connect()
    world.carry()
    again = world.node.take()[1]
    assert isinstance(again, Receive)
    assert again.wait == pytest.approx(15.0)


def test_nothing_before_its_time_is_asked_again() -> None:
    world = connected()
    world.core.ask(world.now, RECEIVE, "me", 100.0)
    world.carry()
    world.node.answer(world.node.take()[0], delivered())
    world.node.leave()
    world.carry()
    assert world.core.link.ended
    world.lose()
    world.wait(0.1)
    assert world.core.wants_connection
    world.connect()
    world.carry()
    world.node.answer(world.node.take()[0], delivered(b"a"))
    world.carry()
    assert world.outcome("me") == (delivered(b"a"), None)
