"""What is told of a call without an answer depends on whether it may have been done."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode
from dmqnode.calls import Call
from dmqnode.errors import (
    LimitExceeded,
    NotAuthorized,
    QueueExists,
    Refused,
    StaleReceipt,
    Unavailable,
    Unknown,
    UsageError,
)
from dmqnode.messages import Ack, CreateQueue, DeleteQueue, Failed, GetQueue, Message
from dmqnode.outcomes import (
    LONGEST_RETRY,
    SHORTEST_RETRY,
    ended,
    lapsed,
    pause,
    perhaps_done,
    too_long,
    unknown,
    unless_done,
)
from tests.dmqnode.answering import LOG, PARTITION, World, connected

HELD = (PARTITION, 7, LOG, 0, 1)
NOWHERE = Unavailable("no node is reachable")
DELETION = DeleteQueue("q")
AWAY = Failed("not-authorized", "this node asks for a token", False)


def call(request: Message = DELETION, *, doubt: bool = False, number: int = 0) -> Call:
    made = Call(0.0, 10.0, request, "owner")
    made.doubt, made.number = doubt, number
    return made


@pytest.mark.parametrize(
    ("request_", "refused", "perhaps"),
    [
        (CreateQueue("q", {}, False), QueueExists("there"), True),
        (CreateQueue("q", {}, False), LimitExceeded("no"), False),
        (GetQueue("q"), Unavailable("nobody"), True),
        (Ack([HELD]), StaleReceipt("gone"), False),
    ],
)
def test_a_refusal_after_a_lost_answer_may_hide_that_it_was_done(
    request_: Message, refused: Refused, perhaps: bool
) -> None:
    made = call(request_)
    assert not perhaps_done(made, refused)
    made.doubt = True
    assert perhaps_done(made, refused) is perhaps
    assert "may or may not" in str(unknown(made, "no answer"))


def test_what_may_have_been_done_is_unknown() -> None:
    refused = NotAuthorized("no token")
    assert unless_done(call(), refused) is refused
    # What is written while the greeting has no answer is not done by who turns the client away.
    assert unless_done(call(number=3), refused) is refused
    assert isinstance(unless_done(call(doubt=True), refused), Unknown)
    assert unless_done(call(GetQueue("q"), doubt=True), refused) is refused
    for made in (call(doubt=True), call(number=3)):
        assert isinstance(lapsed(made, NOWHERE), Unknown)
        assert isinstance(ended(made), Unknown)
    for made in (call(), call(GetQueue("q"), doubt=True, number=3)):
        assert lapsed(made, NOWHERE) is NOWHERE
        assert isinstance(ended(made), UsageError)


def test_pauses_grow_up_to_a_second() -> None:
    assert pause(0, 1.0) == pytest.approx(SHORTEST_RETRY)
    assert pause(3, 0.0) == pytest.approx(4 * SHORTEST_RETRY)
    assert pause(1000, 1.0) == LONGEST_RETRY
    assert too_long(call(), 5).code == "too-large"


# --- a lost answer, then somebody who takes nothing ------------------------------------------------------


def taken_and_lost(size: int = 1) -> World:
    """Return a world whose node took a send and was lost before it answered."""
    world = connected()
    world.core.send_batch(world.now, ("q", None, False), encode([b"x" * size]), "owner")
    world.carry()
    assert world.node.requests
    world.lose()
    return world


def test_a_send_that_may_be_stored_is_unknown_to_who_is_turned_away() -> None:
    world = taken_and_lost()
    world.connect(turn_away=AWAY)
    world.carry()
    error = world.outcome("owner")[1]
    assert isinstance(error, Unknown)
    assert error.stored == "unknown"
    assert "asks for a token" in str(error)


def test_a_send_that_may_be_stored_is_unknown_where_the_next_node_reads_no_such_frame() -> None:
    world = taken_and_lost(200_000)
    world.connect(max_frame=70_000)
    world.carry()
    error = world.outcome("owner")[1]
    assert isinstance(error, Unknown)
    assert "longer than the node takes" in str(error)


def test_a_send_that_nobody_took_is_refused_by_who_turns_the_client_away() -> None:
    world = World()
    world.core.send_batch(world.now, ("q", None, False), encode([b"x"]), "owner")
    world.connect(turn_away=AWAY)
    world.carry()
    assert isinstance(world.outcome("owner")[1], NotAuthorized)


# --- closing ---------------------------------------------------------------------------------------------


def test_at_the_end_everybody_is_told_what_is_known() -> None:
    world = World()
    world.core.ask(world.now, GetQueue("q"), "not sent")
    world.core.end(world.now)
    world.outcomes += world.core.take_outcomes()
    assert isinstance(world.outcome("not sent")[1], UsageError)

    world = connected()
    world.send(b"sent")
    world.core.ask(world.now, GetQueue("q"), "asked")
    world.core.ask(world.now, DeleteQueue("q"), "deleted")
    world.carry()
    for n in range(3):
        world.core.ack(world.now, HELD, f"ack {n}")
    world.core.end(world.now)
    world.outcomes += world.core.take_outcomes()
    assert isinstance(world.outcome(b"sent")[1], Unknown)
    assert isinstance(world.outcome("asked")[1], UsageError)
    assert isinstance(world.outcome("deleted")[1], Unknown)
    assert [type(world.outcome(f"ack {n}")[1]) for n in range(3)] == [UsageError] * 3
    world.carry()
    assert len(world.node.requests) == 3, "what had not left does not leave any more"
    world.node.store()
    world.carry()
    assert len(world.outcomes) == 6
