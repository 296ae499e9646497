"""What travels together, under which numbers, and how much of it."""

from __future__ import annotations

from dmqnode.batch import encode
from dmqnode.errors import (
    LimitExceeded,
    QueueNotFound,
    StaleReceipt,
    Unknown,
)
from dmqnode.lanes import UNDER_WAY
from dmqnode.messages import (
    Ack,
)
from tests.dmqnode.answering import LOG, PARTITION, TIMEOUT, World, bodies, connected

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
    made = [b"%d" % n for n in range(UNDER_WAY + 3)]
    for body in made:
        world.send(body)
        world.carry()
    assert [bodies(m) for _, m in world.node.requests] == [[body] for body in made[:UNDER_WAY]]
    world.node.store()
    world.carry()
    assert bodies(world.node.requests[-1][1]) == made[UNDER_WAY:]


def test_other_queues_do_not_wait() -> None:
    world = connected()
    for n in range(UNDER_WAY + 2):
        world.send(b"%d" % n)
        world.carry()
    world.send(b"other", queue="r")
    world.carry()
    assert bodies(world.node.requests[-1][1]) == [b"other"]


def test_acks_of_single_messages_travel_together_and_fail_apart() -> None:
    world = connected()
    first = UNDER_WAY
    for n in range(first + 3):
        world.core.ack(world.now, (PARTITION, 7, LOG, n, 1), n)
        world.carry()
    for _ in range(UNDER_WAY):
        world.node.settle()
        world.carry()
    together = world.node.settle((1, "stale-receipt", "gone"))
    assert isinstance(together, Ack)
    assert [h[3] for h in together.held] == [first, first + 1, first + 2]
    world.carry()
    assert world.outcome(first) == (None, None)
    assert isinstance(world.outcome(first + 1)[1], StaleReceipt)
    assert world.outcome(first + 2) == (None, None)


def test_an_ack_may_have_an_unknown_outcome_of_its_own() -> None:
    world = connected()
    world.core.ack(world.now, (PARTITION, 7, LOG, 0, 1), 0)
    world.carry()
    world.node.settle((0, "unknown", "its leader was lost"))
    world.carry()
    assert isinstance(world.outcome(0)[1], Unknown)


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
    assert (core._bytes, len(core._sequences), core._lanes._lanes) == (0, 0, {})
    assert not core.routes.pending()
    assert len(core._deadlines) == 0
