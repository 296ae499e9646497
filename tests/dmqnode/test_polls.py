"""Receives from queues of several partitions: asked in turn, then watched."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode import polls
from dmqnode.clock import Now
from dmqnode.messages import Cancelled, Delivered, Done, Failed, Message, Receive
from dmqnode.polls import EMPTY_FOR, LEADERLESS_FOR, Polls
from tests.dmqnode.answering import delivered

EMPTY = Delivered("q#0", 30.0, [])
NOBODY = Failed("unavailable", "no node leads this partition", True)


class World:
    """A front end whose leaders answer as the test says; `asked` are the requests under way."""

    def __init__(self, partitions: int) -> None:
        self.now = Now(10.0, 0)
        self.asked: list[tuple[int, Receive, Callable[[Now, Message], None]]] = []
        self.replies: list[Message] = []
        self.definition: Any = SimpleNamespace(
            name="q", id=b"Q" * 8, settings=SimpleNamespace(partitions=partitions)
        )
        front = SimpleNamespace(cancel=lambda now, session, number: None, ask=self._ask_one)
        clustering: Any = SimpleNamespace(
            stopping=False, front=front, first_homes=lambda definition, index: None
        )
        self.polls = Polls(self, clustering)  # type: ignore[arg-type]

    def ask(
        self,
        now: Now,
        session: int,
        number: int,
        definition: Any,
        index: int,
        message: Receive,
        then: Any,
        patience: float = 5.0,
    ) -> None:
        self.asked.append((index, message, then))
        self.patience = patience

    def _ask_one(
        self, now: Now, session: int, number: int, id_: Any, first: Any, message: Receive, then: Any, **_: Any
    ) -> None:
        self.asked.append((0, message, then))

    def reply(self, session: int, number: int, answer: Message) -> None:
        self.replies.append(answer)

    def receive(self, wait: float) -> None:
        self.polls.receive(self.now, 1, 1, Receive("q", 10, 1000, wait, None), self.definition)

    def answer(self, message: Message, at: int = 0) -> int:
        """Answer a request that is under way; return of which partition it was."""
        index, _, then = self.asked.pop(at)
        then(self.now, message)
        return index


def test_partitions_are_asked_in_turn_until_one_has_something() -> None:
    world = World(3)
    world.receive(0.0)
    first = world.answer(EMPTY)
    second = world.answer(delivered(b"x"))
    assert first != second
    (answer,) = world.replies
    assert isinstance(answer, Delivered)
    assert (answer.queue, len(answer.parts)) == ("q", 1)
    world.receive(0.0)
    assert world.asked[0][0] != first  # another is the first to be asked


@pytest.mark.parametrize(
    ("answer", "took", "seconds"),
    [
        (EMPTY, 0.0, EMPTY_FOR),
        (EMPTY, 5.0, EMPTY_FOR),
        (NOBODY, 0.0, EMPTY_FOR),
        (NOBODY, 0.4, 0.4),
        (NOBODY, 5.0, LEADERLESS_FOR),
    ],
)
def test_who_lately_had_nothing_is_asked_after_the_others(
    answer: Message, took: float, seconds: float
) -> None:
    world = World(3)
    world.receive(0.0)
    world.now = Now(world.now.run + took, 0)
    bare = world.answer(answer)
    world.answer(delivered(b"x"))

    def asked_first() -> set[int]:
        first = set()
        for _ in range(3):
            world.receive(0.0)
            first.add(world.answer(delivered(b"x")))
        return first

    assert bare not in asked_first()
    world.now = Now(world.now.run + seconds - 0.01, 0)
    assert bare not in asked_first()
    world.now = Now(world.now.run + 0.02, 0)
    assert bare in asked_first()


def test_all_are_asked_though_none_lately_had_anything() -> None:
    world = World(3)
    for _ in range(2):
        world.receive(0.0)
        assert sorted(world.answer(EMPTY) for _ in range(3)) == [0, 1, 2]


def test_who_has_something_again_is_asked_in_turn_again() -> None:
    world = World(3)
    world.receive(0.0)
    bare = [world.answer(EMPTY) for _ in range(2)]
    world.answer(EMPTY)
    world.receive(5.0)
    for _ in range(3):
        world.answer(EMPTY)
    world.answer(Done(1), at=next(i for i, asked in enumerate(world.asked) if asked[0] == bare[0]))
    assert world.answer(delivered(b"x"), at=-1) == bare[0]
    world.asked.clear()
    for _ in range(3):
        world.receive(0.0)
        assert world.answer(delivered(b"x")) == bare[0], "all others lately had nothing"


def test_of_so_many_partitions_only_is_remembered_that_they_had_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polls, "MOST_ASIDE", 4)
    world = World(10)
    world.receive(0.0)
    for _ in range(10):
        world.answer(EMPTY)
        assert len(world.polls._aside) <= 4


def test_empty_is_said_only_by_those_who_were_asked() -> None:
    world = World(2)
    world.receive(0.0)
    world.answer(EMPTY)
    world.answer(EMPTY)
    assert world.replies == [Delivered("q", 30.0, [])]


@pytest.mark.parametrize("first", [True, False])
def test_a_partition_that_nobody_leads_is_not_taken_for_empty(first: bool) -> None:
    world = World(2)
    world.receive(0.0)
    for answer in (NOBODY, EMPTY) if first else (EMPTY, NOBODY):
        world.answer(answer)
    assert world.replies == [NOBODY]


def test_what_another_partition_has_is_delivered_though_one_has_no_leader() -> None:
    world = World(2)
    world.receive(0.0)
    world.answer(NOBODY)
    world.answer(delivered(b"x"))
    (answer,) = world.replies
    assert isinstance(answer, Delivered)


def test_who_waits_watches_all_and_asks_the_first_that_has_something() -> None:
    world = World(2)
    world.receive(5.0)
    world.answer(EMPTY)
    world.answer(EMPTY)
    assert [(r.max_messages, r.wait) for _, r, _ in world.asked] == [(0, 5.0)] * 2
    woken = world.answer(Done(1), at=1)
    assert world.answer(EMPTY) != woken  # the other's watch, given up
    assert world.answer(delivered(b"x")) == woken
    assert len(world.replies) == 1


# --- given up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [EMPTY, NOBODY, Cancelled()])
def test_no_other_partition_is_asked_for_a_receive_that_was_given_up(answer: Message) -> None:
    world = World(3)
    world.receive(5.0)
    world.polls.cancelled(1, 1)
    world.answer(answer)
    assert not world.asked
    assert world.replies == [Cancelled()]


def test_nothing_is_taken_when_a_receive_that_was_given_up_is_told_that_there_is_something() -> None:
    world = World(2)
    world.receive(5.0)
    for _ in range(2):
        world.answer(EMPTY)
    world.polls.cancelled(1, 1)
    world.answer(Done(1))
    assert len(world.asked) == 1, "the other watch"
    world.answer(Cancelled())
    assert not world.asked
    assert world.replies == [Cancelled()]


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_receive_that_was_given_up_does_not_begin_anew_with_more_partitions(partitions: int) -> None:
    world = World(partitions)
    world.receive(5.0)
    world.polls.cancelled(1, 1)
    world.polls.grown(world.now, "q")
    world.answer(Cancelled())
    assert not world.asked
    assert world.replies == [Cancelled()]


def test_nobody_is_asked_to_wait_longer_than_the_client_wants_however_times_are_rounded() -> None:
    world = World(2)
    world.now = Now(1000.002, 0)
    assert world.now.run + 3600.0 - world.now.run > 3600.0
    world.receive(3600.0)
    while not world.asked[0][1].wait:
        world.answer(EMPTY)
    assert world.asked[0][1].wait == 3600.0
