"""The front end: what it says of a request whose leader was lost on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.frontend import LONGEST, FrontEnd
from dmqnode.homesets import HomeSet
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.messages import Ack, Extend, Failed, Message, Nack, Receive
from dmqnode.peer_messages import Forward

ME, OTHER = NodeId(b"m" * 16), NodeId(b"o" * 16)
PARTITION = PartitionId(b"P" * 10)
HELD = [(PARTITION, 7, LogId(b"L" * 20), 0, 1)]


class Around:
    """What a front end knows: one other node, which leads and is there until it is not."""

    def __init__(self) -> None:
        self.there = True
        self.sent: list[Message] = []
        homes = HomeSet.first((ME, OTHER, NodeId(b"x" * 16)))
        self.me = ME
        self.cluster = SimpleNamespace(
            me=ME,
            leaders={PARTITION: OTHER},
            leads=lambda partition: False,
            homes=lambda partition, first: homes,
            want=lambda now, partition, first: None,
            leases=SimpleNamespace(claiming=lambda partition: True),
        )

    def reachable(self, node: NodeId) -> bool:
        return self.there and node == OTHER

    def send(self, node: NodeId, message: Message) -> None:
        self.sent.append(message)


def outcome(message: Message, *, under_way: bool) -> Failed:
    """Ask while the other leads; it is lost, and nobody else comes to lead."""
    around: Any = Around()
    broker: Any = SimpleNamespace(sessions={})
    front = FrontEnd(broker, around)
    answers: list[Message] = []
    around.there = under_way
    first = HomeSet.first((ME, OTHER))
    front.ask(Now(0.0, 0), 1, 1, PARTITION, first, message, lambda now, answer: answers.append(answer))
    assert [type(m) for m in around.sent] == ([Forward] if under_way else [])
    around.there = False
    if under_way:
        front.gone(Now(0.1, 100), OTHER)
    at = 0.1
    while not answers and at < LONGEST + 1:
        at += 0.1
        front.tick(Now(at, round(1000 * at)))
    (answer,) = answers
    assert isinstance(answer, Failed)
    return answer


@pytest.mark.parametrize(
    "message", [Ack(HELD), Nack(HELD, 0.0, False, ""), Extend(HELD, 5.0)], ids=lambda m: type(m).__name__
)
def test_what_was_under_way_when_its_leader_was_lost_may_be_done(message: Message) -> None:
    answer = outcome(message, under_way=True)
    assert (answer.code, answer.stored) == ("unknown", "unknown")


@pytest.mark.parametrize(
    "message", [Ack(HELD, True), Nack(HELD, 0.0, False, "", True)], ids=lambda m: type(m).__name__
)
def test_what_repeats_a_request_without_an_answer_may_be_done_by_that_one(message: Message) -> None:
    answer = outcome(message, under_way=False)
    assert (answer.code, answer.stored) == ("unknown", "unknown")


@pytest.mark.parametrize(
    "message", [Ack(HELD), Receive("q", 1, 1000, 0.0, None)], ids=lambda m: type(m).__name__
)
def test_what_never_left_was_not_done(message: Message) -> None:
    answer = outcome(message, under_way=False)
    assert (answer.code, answer.stored) == ("unavailable", "no")
