"""The front end: what it says of a request whose leader was lost on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.frontend import FIRST_TICKET, LONGEST, NOT_LEADER, FrontEnd
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


class Outside(Around):
    """A front end that is no home: the homes that it knows are gone, and what it hears leads in a circle."""

    def __init__(self, *others: NodeId) -> None:
        super().__init__()
        self.asked: list[NodeId] = []
        self.linked = dict.fromkeys(others)
        self.wanted = lambda partition: others[:1]
        gone = HomeSet.first((NodeId(b"x" * 16), NodeId(b"y" * 16)))
        self.cluster.homes = lambda partition, first: gone
        self.cluster.leaders = {}

    def reachable(self, node: NodeId) -> bool:
        return node in self.linked

    def send(self, node: NodeId, message: Message) -> None:
        assert isinstance(message, Forward)
        self.asked.append(node)

    def ask_until(self, end: float, answer: dict[NodeId, str]) -> None:
        """Ask for so long, while each node names who leads."""
        broker: Any = SimpleNamespace(sessions={})
        around: Any = self
        front = FrontEnd(broker, around)
        front.ask(Now(0.0, 0), 1, 1, PARTITION, HomeSet.first((ME,)), Ack(HELD), lambda now, answer: None)
        at, answered = 0.0, 0
        while at < end:
            while answered < len(self.asked):
                told = Failed(NOT_LEADER, answer.get(self.asked[answered], ""), True)
                answered += 1
                front.answered(Now(at, 0), FIRST_TICKET + 1, told)
            at += 0.05
            front.tick(Now(at, round(1000 * at)))


def test_who_knows_only_homes_that_are_gone_asks_everybody() -> None:
    others = [NodeId(bytes([n] * 16)) for n in range(1, 5)]
    around = Outside(*others)
    around.ask_until(1.0, {})
    assert around.asked[0] == others[0], "whom placement wants is asked first"
    assert set(around.asked) == set(others)


def test_whom_somebody_names_is_asked_at_once() -> None:
    others = [NodeId(bytes([n] * 16)) for n in range(1, 5)]
    around = Outside(*others)
    chain = {others[0]: others[2].hex(), others[2]: others[3].hex(), others[3]: others[1].hex()}
    around.ask_until(0.04, chain)
    assert around.asked == [others[0], others[2], others[3]], "two at once, and the third with the next look"


def test_hearsay_that_leads_in_a_circle_is_left() -> None:
    others = [NodeId(bytes([n] * 16)) for n in range(1, 5)]
    around = Outside(*others)
    around.ask_until(2.0, {others[0]: others[1].hex(), others[1]: others[0].hex()})
    assert set(around.asked) == set(others)
