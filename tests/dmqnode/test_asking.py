"""What a client decides: what travels together, what is made again, and what is known when time is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.asking import FIRST_PATIENCE
from dmqnode.batch import encode, parse
from dmqnode.calls import CHANGE_NOTHING, NOT_REPEATED
from dmqnode.connection import REQUESTS
from dmqnode.errors import (
    DMQError,
    LimitExceeded,
    NotAuthorized,
    ProtocolError,
    QueueExists,
    QueueNotFound,
    StaleReceipt,
    Unavailable,
    Unknown,
)
from dmqnode.messages import (
    Ack,
    CreateQueue,
    DeleteQueue,
    Done,
    Extend,
    Failed,
    GetQueue,
    Message,
    Nack,
    PurgeQueue,
    Receive,
    Redrive,
    Send,
    SetQueue,
)
from tests.dmqnode.answering import LOG, PARTITION, TIMEOUT, World, delivered

RECEIVE = Receive("q", 10, 1 << 20, 20.0, None)
HELD = [(PARTITION, 7, LOG, 0, 1)]


def connected(*addresses: str, **options: object) -> World:
    """Return a world whose client has been welcomed."""
    world = World(*addresses)
    world.connect(**options)
    world.carry()
    return world


def bodies(message: Message) -> list[bytes]:
    assert isinstance(message, Send)
    return parse(message.batch).bodies()


# --- travelling together ---------------------------------------------------------------------------------


def test_sends_made_before_a_write_travel_together() -> None:
    world = connected()
    for body in (b"a", b"b", b"c"):
        world.send(body)
    world.carry()
    assert len(world.node.requests) == 1
    assert bodies(world.node.store()) == [b"a", b"b", b"c"]
    world.carry()
    assert world.outcome(b"b") == ("jrgeytcmjrgeytcmjrgeytcmjrgeytcm-1", None)


def test_sends_made_while_others_are_under_way_wait_for_them() -> None:
    world = connected()
    for body in (b"1", b"2", b"3", b"4", b"5"):
        world.send(body)
        world.carry()
    assert [bodies(m) for _, m in world.node.requests] == [[b"1"], [b"2"]]
    world.node.store()
    world.carry()
    assert bodies(world.node.requests[-1][1]) == [b"3", b"4", b"5"]


def test_other_queues_do_not_wait() -> None:
    world = connected()
    for n in range(4):
        world.send(b"%d" % n)
        world.carry()
    world.send(b"other", queue="r")
    world.carry()
    assert bodies(world.node.requests[-1][1]) == [b"other"]


def test_acks_of_single_messages_travel_together_and_fail_apart() -> None:
    world = connected()
    for n in range(5):
        world.core.ack(world.now, (PARTITION, 7, LOG, n, 1), n)
        world.carry()
    world.node.settle()
    world.carry()
    world.node.settle()
    world.carry()
    together = world.node.settle((1, "stale-receipt", "gone"))
    assert isinstance(together, Ack)
    assert [h[3] for h in together.held] == [2, 3, 4]
    world.carry()
    assert world.outcome(2) == (None, None)
    assert isinstance(world.outcome(3)[1], StaleReceipt)
    assert world.outcome(4) == (None, None)


def test_a_refusal_of_one_message_does_not_fail_those_that_travelled_with_it() -> None:
    world = connected()
    for body in (b"a", b"b", b"LONG", b"d", b"e"):
        world.send(body)
    world.carry()
    while world.node.requests:
        if b"LONG" in bodies(world.node.requests[0][1]):
            world.node.refuse("too-large")
        else:
            world.node.store()
        world.carry()
    assert sorted(world.node.bodies) == [b"a", b"b", b"d", b"e"]
    assert isinstance(world.outcome(b"LONG")[1], LimitExceeded)
    assert all(world.outcome(b)[1] is None for b in (b"a", b"b", b"d", b"e"))


def test_each_sender_gets_an_error_of_its_own() -> None:
    world = connected()
    world.send(b"a")
    world.send(b"b")
    world.carry()
    world.node.refuse("queue-not-found")
    world.carry()
    first, second = world.outcome(b"a")[1], world.outcome(b"b")[1]
    assert isinstance(first, QueueNotFound)
    assert isinstance(second, QueueNotFound)
    assert first is not second
    assert (first.code, str(first)) == ("queue-not-found", "refused: queue-not-found")


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


def test_what_the_node_does_not_know_is_unknown() -> None:
    world = connected()
    world.send(b"a")
    world.carry()
    world.node.refuse("failed", stored="unknown")
    world.carry()
    assert isinstance(world.outcome(b"a")[1], Unknown)


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
    assert world.core.parting
    world.node.answer(number, delivered(b"a", b"b"))
    world.carry()
    nack = world.node.settle()
    assert nack == Nack([(PARTITION, 7, LOG, 0, 2)], 0.0, False, "")
    world.carry()
    assert not world.core.parting
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


# --- withdrawing -----------------------------------------------------------------------------------------


def test_a_send_withdrawn_before_it_left_is_not_sent() -> None:
    world = connected()
    call = world.send(b"a")
    world.send(b"b")
    world.core.withdraw(call, b"a")  # type: ignore[arg-type]
    world.carry()
    assert bodies(world.node.store()) == [b"b"]
    world.carry()
    assert not world.has(b"a")


def test_a_send_withdrawn_after_it_left_says_nothing_to_its_sender() -> None:
    world = connected()
    call = world.send(b"a")
    world.send(b"b")
    world.carry()
    world.core.withdraw(call, b"a")  # type: ignore[arg-type]
    world.node.store()
    world.carry()
    assert [owner for owner, _, _ in world.outcomes] == [b"b"]


def test_lanes_go_on_after_withdrawals() -> None:
    world = connected()
    calls = []
    for n in range(4):
        calls.append((world.send(b"%d" % n), b"%d" % n))
        world.carry()
    for call, owner in calls:
        world.core.withdraw(call, owner)  # type: ignore[arg-type]
    world.node.store()
    world.node.store()
    world.carry()
    world.send(b"next")
    world.carry()
    assert bodies(world.node.store()) == [b"next"]


# --- credit and frames -----------------------------------------------------------------------------------


def test_what_credit_does_not_allow_waits() -> None:
    world = connected(credit=100_000)
    for owner in range(1, 6):
        world.core.send_batch(world.now, ("q", None, False), encode([b"x" * 40_000]), owner)
    world.carry()
    assert len(world.node.requests) == 2
    for _ in range(5):
        world.node.store()
        world.carry()
    assert len(world.outcomes) == 5


def test_what_no_frame_holds_is_refused() -> None:
    world = connected(max_frame=100_000)
    world.core.send_batch(world.now, ("q", None, False), encode([b"x" * 200_000]), "me")
    world.carry()
    error = world.outcome("me")[1]
    assert isinstance(error, LimitExceeded)
    assert error.code == "too-large"


def test_the_core_says_when_it_is_full() -> None:
    world = World()
    assert not world.core.full
    for owner in range(40):
        world.core.send_batch(0.0, ("q", None, False), encode([b"x" * (1 << 20)]), owner + 1)
    assert world.core.full
    world.wait(TIMEOUT)
    assert not world.core.full


def test_all_is_accounted_for_when_nothing_is_left() -> None:
    world = connected()
    for n in range(20):
        call = world.send(b"%d" % n)
        world.carry()
        if n % 3 == 0:
            world.core.withdraw(call, b"%d" % n)  # type: ignore[arg-type]
    while world.node.requests:
        world.node.store()
        world.carry()
    core = world.core
    assert (core._bytes, dict(core._unsettled), core._lanes._lanes) == (0, {}, {})
    assert not core._pending()
    assert len(core._deadlines) == 0


# --- whatever happens ------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.sampled_from(["send", "send", "carry", "store", "lose", "overload", "refuse", "wait", "withdraw"]),
    max_size=60,
)


@given(events=EVENTS)
def test_whatever_happens_each_send_has_one_true_outcome(events: list[str]) -> None:
    """P10: what is "not stored" never is; what is stored is told; everybody hears exactly once."""
    world = connected()
    stored: dict[int, list[bytes]] = {}
    made: list[tuple[object, bytes]] = []
    gone: set[bytes] = set()

    def store_first() -> None:
        number, send = world.node.take()
        assert isinstance(send, Send)
        # As the node does: a repetition is recognised by its sequence.
        assert stored.setdefault(send.sequence, bodies(send)) == bodies(send)
        world.node.requests.insert(0, (number, send))
        world.node.store()

    for event in events:
        if event == "send":
            body = b"%d" % len(made)
            made.append((world.send(body), body))
        elif event == "carry":
            world.carry()
        elif event == "store" and world.node.requests:
            store_first()
        elif event == "overload" and world.node.requests:
            world.node.refuse("overloaded", retryable=True)
        elif event == "refuse" and world.node.requests:
            world.node.refuse("too-large")
        elif event == "lose":
            world.lose()
            world.connect()
        elif event == "wait":
            world.wait(3.0)
        elif event == "withdraw" and made:
            call, body = made[len(made) // 2]
            gone.add(body)
            world.core.withdraw(call, body)  # type: ignore[arg-type]
    for _ in range(100):
        if world.core.link.ended:
            world.lose()
            world.connect()
        world.carry()
        while world.node.requests:
            store_first()
        world.carry()
        world.wait(1.0)
    assert not world.core._pending()
    assert not len(world.core._again)
    told = [owner for owner, _, _ in world.outcomes]
    assert len(told) == len(set(told))
    assert set(told) | gone >= {body for _, body in made}
    there = [body for batch in stored.values() for body in batch]
    assert len(there) == len(set(there))
    for owner, _, error in world.outcomes:
        if error is None:
            assert owner in there
        elif not isinstance(error, Unknown):
            assert isinstance(error, DMQError)
            assert owner not in there
