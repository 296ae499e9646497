"""Which clients are told who leads, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dmqnode.clock import Now
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import LEADS, Hello, Leads
from dmqnode.news import MOST_TOLD, TELL_AGAIN, News
from dmqnode.roster import Member, Roster
from dmqnode.surroundings import Session

ME, OTHER, THIRD = NodeId(b"me------"), NodeId(b"other---"), NodeId(b"third---")
PARTITION = PartitionId(b"Q" * 8 + bytes(2))


class World:
    """What a front end has told the sessions of two clients: 1 wants to know, 2 does not."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, Leads]] = []
        definition = SimpleNamespace(name="q", settings=SimpleNamespace(partitions=2))
        hello = [Hello(1, 1, "c", "", can, 1 << 20) for can in ([LEADS], [])]
        broker: Any = SimpleNamespace(
            sessions={n: Session.of(n, h) for n, h in enumerate(hello, 1)},
            registry=SimpleNamespace(definition_of=lambda id_: definition if id_ == b"Q" * 8 else None),
            reply=lambda *reply: self.told.append(reply),
        )
        members = (Member(ME, "me", "a:1"), Member(OTHER, "other", "b:1"), Member(THIRD, "third", "c:1"))
        clustering: Any = SimpleNamespace(me=ME, rosters=SimpleNamespace(current=Roster(1, members)))
        self.sessions = broker.sessions
        self._news = News(broker, clustering)

    def answered(
        self, at: float, leader: NodeId, session: int = 1, partition: PartitionId = PARTITION
    ) -> list[Leads]:
        """Let `leader` answer a request of a client; return what the client is told."""
        self.told.clear()
        self._news.tell(Now(at, 0), session, partition, leader)
        assert all((s, number) == (session, 0) for s, number, _ in self.told)
        return [message for _, _, message in self.told]


def test_told_is_what_is_news_and_again_after_a_while() -> None:
    world = World()
    assert world.answered(0.0, OTHER) == [Leads("q", PARTITION, 2, "other", "b:1")]
    assert world.answered(1.0, OTHER) == []
    assert world.answered(TELL_AGAIN, OTHER) != []
    assert world.answered(TELL_AGAIN + 1, THIRD) == [Leads("q", PARTITION, 2, "third", "c:1")]


def test_who_asks_the_leader_itself_is_told_only_if_it_believes_otherwise() -> None:
    world = World()
    assert world.answered(0.0, ME) == []
    world.answered(0.0, OTHER)
    assert world.answered(0.0, ME) == [Leads("q", PARTITION, 2, "me", "a:1")]
    assert world.answered(1.0, ME) == []


def test_who_does_not_want_to_know_or_is_gone_is_told_nothing() -> None:
    world = World()
    assert world.answered(0.0, OTHER, session=2) == []
    assert world.answered(0.0, OTHER, session=3) == []


def test_of_what_is_not_known_nothing_is_told() -> None:
    world = World()
    assert world.answered(0.0, NodeId(b"nobody--")) == []
    assert world.answered(0.0, OTHER, partition=PartitionId(bytes(10))) == []


def test_what_is_remembered_of_a_session_is_bounded() -> None:
    world = World()
    for n in range(MOST_TOLD + 10):
        world.answered(0.0, OTHER, partition=PartitionId(b"Q" * 8 + n.to_bytes(2, "big")))
    assert len(world.sessions[1].told) <= MOST_TOLD
