"""Work done in several requests, of which a later one fails: what was done is not told as refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dmqnode import questions
from dmqnode.errors import DMQError, NotAuthorized, PartlyFailed, StaleReceipt, Unavailable, Unknown
from dmqnode.ids import Receipt
from dmqnode.messages import Ack, Done, Message, Redrive, Settled
from dmqnode.questions import Question, proceed
from dmqnode.received import HELD_AT_ONCE, Received, unpack
from tests.dmqnode.answering import LOG, PARTITION, delivered

AWAY = Unavailable("nobody leads it now")


def answer(question: Question[Any], *answers: Message | DMQError) -> tuple[list[Message], Any]:
    """Give a question its answers; return the requests and its result.  Errors: the question's."""
    requests, given = [], iter([None, *answers])
    while True:
        try:
            requests.append(proceed(question, next(given)))
        except StopIteration as stop:
            return requests, stop.value


def receipts(count: int) -> list[str]:
    """Return receipts that no two of are one range."""
    return [str(Receipt(PARTITION, n + 1, LOG, n)) for n in range(count)]


@pytest.mark.parametrize(
    "settle",
    [
        questions.ack,
        lambda some: questions.nack(some, 0.0, False, ""),
        lambda some: questions.extend(some, 60.0),
    ],
)
def test_a_later_request_that_fails_makes_it_a_part(settle: Callable[[list[str]], Question[None]]) -> None:
    named = receipts(2 * HELD_AT_ONCE + 5)
    gone = Settled([(3, "stale-receipt", "gone")])
    with pytest.raises(PartlyFailed, match="no known outcome") as failed:
        answer(settle(named), gone, Unknown("no answer came in time"))
    failures = failed.value.failures
    assert [at for at, _ in failures] == [3, *range(HELD_AT_ONCE, len(named))]
    assert isinstance(failures[0][1], StaleReceipt)
    assert {type(why) for _, why in failures[1 : HELD_AT_ONCE + 1]} == {Unknown}
    assert {type(why) for _, why in failures[HELD_AT_ONCE + 1 :]} == {Unavailable}
    assert "not asked for any more" in str(failures[-1][1])


def test_the_first_request_that_fails_is_the_error() -> None:
    with pytest.raises(Unavailable) as failed:
        answer(questions.ack(receipts(HELD_AT_ONCE + 5)), AWAY)
    assert failed.value is AWAY


def test_a_range_that_cannot_be_asked_for_singly_failed_for_that_reason() -> None:
    (part,) = delivered(b"a", b"b", b"c").parts
    messages = unpack(Received, None, "q", [part])
    with pytest.raises(PartlyFailed) as failed:
        answer(questions.ack(messages), Settled([(0, "stale-receipt", "1 of 3 is gone")]), AWAY)
    assert [(at, type(why)) for at, why in failed.value.failures] == [(n, Unavailable) for n in range(3)]


def test_all_requests_that_succeed_are_one_success() -> None:
    requests, result = answer(questions.ack(receipts(HELD_AT_ONCE + 1)), Settled([]), Settled([]))
    assert result is None
    assert [len(r.held) for r in requests if isinstance(r, Ack)] == [HELD_AT_ONCE, 1]


def test_a_redrive_says_how_many_it_has_moved_when_a_step_fails() -> None:
    with pytest.raises(PartlyFailed, match="5000 messages were moved, and then: nobody leads") as failed:
        answer(questions.redrive("dead", None, None), Done(4096), Done(904), AWAY)
    assert failed.value.failures == ((5000, AWAY),)
    with pytest.raises(NotAuthorized):
        answer(questions.redrive("dead", None, None), NotAuthorized("no"))
    requests, moved = answer(questions.redrive("dead", "q", 7), Done(7))
    assert (requests, moved) == ([Redrive("dead", "q", 7)], 7)
