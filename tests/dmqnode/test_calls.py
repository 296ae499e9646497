"""Calls: what is written of each, what comes of an answer, and what may be repeated."""

from __future__ import annotations

from dmqnode.batch import encode, parse
from dmqnode.calls import ANSWER_TO, AckGroup, Call, SendGroup, stored_ids
from dmqnode.connection import REQUESTS
from dmqnode.errors import StaleReceipt
from dmqnode.ids import LogId, log_text
from dmqnode.messages import Ack, Extend, Nack, Receive, Settled, Stored
from tests.dmqnode.answering import LOG, PARTITION

HELD = (PARTITION, 7, LOG, 0, 1)


def sends(*bodies: bytes) -> SendGroup:
    group = SendGroup(0.0, 10.0, ("q", None, False), 5, {})
    for body in bodies:
        group.add(body, {}, body, 10.0)
    return group


def test_every_request_has_an_answer() -> None:
    assert set(ANSWER_TO) == REQUESTS


def test_a_repeated_receive_waits_for_what_is_left_of_its_time() -> None:
    call = Call(100.0, 150.0, Receive("q", 10, 1000, 20.0, None, "me"), "owner")
    assert call.message(105.0) == call.request
    call.attempts = 1
    assert call.message(105.0) == Receive("q", 10, 1000, 15.0, None, "me")
    assert call.message(130.0) == Receive("q", 10, 1000, 0.0, None, "me")


def test_acks_and_nacks_say_that_they_are_repeated_if_they_may_have_been_done() -> None:
    for request, again in (
        (Ack([HELD]), Ack([HELD], True)),
        (Nack([HELD], 5.0, True, "why"), Nack([HELD], 5.0, True, "why", True)),
        (Nack([HELD], 0.0, False, "", False, True), Nack([HELD], 0.0, False, "", True, True)),
        (Extend([HELD], 5.0), Extend([HELD], 5.0)),
    ):
        call = Call(0.0, 10.0, request, "owner")
        call.attempts = 1
        assert call.message(0.0) == request
        call.doubt = True
        assert call.message(0.0) == again


def test_a_group_leaves_out_who_withdrew_before_it_was_written_and_tells_nobody_after() -> None:
    group = sends(b"a", b"b", b"c")
    group.drop(b"b")
    group.seal()
    assert parse(group.send(b"p", 1).batch).bodies() == [b"a", b"c"]
    group.drop(b"c")
    assert parse(group.send(b"p", 1).batch).bodies() == [b"a", b"c"]
    log = log_text(LOG)
    assert group.results(Stored([(LOG, 4, 2)], 0)) == [(b"a", f"{log}-4", None)]


def test_a_batch_has_one_owner_and_its_answer_as_it_is() -> None:
    group = sends()
    group.take(encode([b"a", b"b"]), "owner")
    assert group.results(Stored([(LOG, 4, 2)], 0)) == [("owner", Stored([(LOG, 4, 2)], 0), None)]
    group.drop("owner")
    assert group.results(Stored([(LOG, 4, 2)], 0)) == []


def test_each_of_a_group_has_its_own_time() -> None:
    group = sends()
    for owner, deadline in (("a", 5.0), ("b", 3.0), ("c", 9.0)):
        group.add(b"x", {}, owner, deadline)
    assert group.next_late() == 3.0
    assert group.late(5.0) == ["a", "b"]
    group.drop("b")
    assert group.next_late() == 5.0


def test_keys_are_noticed_in_single_messages_and_in_batches() -> None:
    group = sends(b"a")
    assert not group.keyed
    group.add(b"b", {"a": {"k": "v"}}, "b", 10.0)
    assert not group.keyed
    group.add(b"c", {"g": "group"}, "c", 10.0)
    assert group.keyed


def test_of_acks_that_met_each_has_its_own_outcome() -> None:
    group = AckGroup(0.0, 10.0, "")
    for owner in range(3):
        group.add((PARTITION, 7, LOG, owner, 1), owner, 10.0)
    group.drop(0)
    group.seal()
    first, second = group.results(Settled([(1, "stale-receipt", "gone")]))
    assert first == (1, None, None)
    assert second[0] == 2
    assert isinstance(second[2], StaleReceipt)


def test_ids_follow_the_runs() -> None:
    other = LogId(b"M" * 20)
    ids = stored_ids(Stored([(LOG, 7, 2), (other, 0, 1)], 0))
    assert ids == [f"{log_text(LOG)}-7", f"{log_text(LOG)}-8", f"{log_text(other)}-0"]
