"""What a caller gives is checked before it is written: a node would hang up, and all would suffer."""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode import wire
from dmqnode.batch import encode
from dmqnode.checks import DEEPEST, check_request, check_send, number, text, whole
from dmqnode.errors import UsageError
from dmqnode.messages import (
    Browse,
    CreateQueue,
    Extend,
    GetQueue,
    ListQueues,
    Message,
    Nack,
    Receive,
    Redrive,
    Send,
    SetQueue,
    Step,
)
from tests.dmqnode.answering import LOG, PARTITION

HELD = [(PARTITION, 7, LOG, 0, 1)]
NAN, INFINITE = float("nan"), float("inf")
HALF = "\udcff"


class Name(StrEnum):
    QUEUE = "q"


class Count(IntEnum):
    ONE = 1


def receive(**changes: Any) -> Receive:
    given = {"queue": "q", "max_messages": 1, "max_bytes": 10, "wait": 0.0, "visibility": None, "holder": ""}
    return Receive(**{**given, **changes})


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (GetQueue(5), "queue is 5; it must be a text"),
        (GetQueue(HALF), "queue is '.udcff'; it must be valid Unicode"),
        (receive(holder=HALF), "holder"),
        (receive(visibility="30"), "visibility is '30'; it must be a number"),
        (receive(visibility=NAN), "finite"),
        (receive(wait=INFINITE), "finite"),
        (receive(wait=True), "number"),
        (receive(wait=2**70), "finite"),
        (receive(max_messages=1.5), "max_messages is 1.5; it must be a whole"),
        (receive(max_messages=True), "whole"),
        (receive(max_messages=-1), "at least 0"),
        (Browse("q", 5, 1, 1, None), "state"),
        (Browse("q", "ready", 1, 1, "cursor"), "cursor"),
        (Redrive("q", 5, 1), "to is 5"),
        (Extend(HELD, "60"), "visibility"),
        (Nack(HELD, NAN, False, ""), "delay"),
        (Nack(HELD, 0.0, 1, ""), "dead_letter is 1; it must be True or False"),
        (Nack(HELD, 0.0, False, HALF), "reason"),
        (ListQueues(5, "", 1, False), "prefix"),
        (Step("join", "id", False), "member"),
        (CreateQueue("q", {"visibility": object()}, False), "visibility is <object"),
        (CreateQueue("q", {"visibility": Decimal(30)}, False), "visibility"),
        (CreateQueue("q", {HALF: 1}, False), "name of a setting"),
        (SetQueue("q", {"dead_letter": HALF}), "dead_letter"),
        (SetQueue("q", {"delay": NAN}), "delay"),
        (SetQueue("q", {"delay": {"a": [1, {2: 3}]}}), "delay"),
    ],
)
def test_what_cannot_be_written_is_named(request_: Message, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        check_request(request_)


def test_nothing_is_endless() -> None:
    deep: list[Any] = []
    for _ in range(DEEPEST):
        deep = [deep]
    with pytest.raises(UsageError, match="delay"):
        check_request(SetQueue("q", {"delay": deep}))


@pytest.mark.parametrize(
    ("lane", "word"),
    [
        ((5, None, False), "queue"),
        ((HALF, None, False), "queue"),
        (("q", "5", False), "delay"),
        (("q", NAN, False), "delay"),
        (("q", None, 1), "create"),
    ],
)
def test_what_goes_with_a_batch_is_named(lane: tuple[Any, Any, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        check_send(*lane)


def test_subclasses_are_what_they_are_made_from() -> None:
    check_request(receive(queue=Name.QUEUE, max_messages=Count.ONE, wait=Count.ONE, visibility=1))
    check_send(Name.QUEUE, 0, True)
    assert (text("t", "ä"), number("n", 1), number("n", -0.5), whole("w", 0)) == ("ä", 1, -0.5, 0)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=3)
    | st.text(st.characters(codec=None), max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2) | st.integers(), inner),
    max_leaves=4,
)


@given(
    request=st.builds(receive, visibility=ANYTHING, holder=ANYTHING, max_messages=ANYTHING)
    | st.builds(CreateQueue, ANYTHING, st.dictionaries(st.text(max_size=2), ANYTHING, max_size=2), ANYTHING)
    | st.builds(Nack, st.just(HELD), ANYTHING, ANYTHING, ANYTHING)
    | st.builds(Browse, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING)
)
def test_whatever_is_let_through_a_node_reads(request: Message) -> None:
    try:
        check_request(request)
    except UsageError:
        return
    frame = b"".join(wire.encode(1, request))
    assert type(wire.decode(frame[wire.FRAME_HEAD :])[1]) is type(request)


@given(lane=st.tuples(ANYTHING, ANYTHING, ANYTHING))
def test_whatever_is_let_through_with_a_batch_a_node_reads(lane: tuple[Any, Any, Any]) -> None:
    try:
        check_send(*lane)
    except UsageError:
        return
    queue, delay, create = lane
    send = Send(queue, b"p" * 16, 1, 1, delay, create, encode([b"x"]).blob)
    frame = b"".join(wire.encode(1, send))
    assert type(wire.decode(frame[wire.FRAME_HEAD :])[1]) is Send
