"""Copies that nobody needs are given back, and who is wrongly believed to lead is found out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode import strays
from dmqnode.clock import Now
from dmqnode.homesets import NO_LEASE, HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message
from dmqnode.peer_messages import Committed, Dropped, LedBy, WhoLeads
from dmqnode.reads import Rows
from dmqnode.strays import ASK_AT_ONCE, Strays

A, B, C, D = (NodeId(bytes([n] * 8)) for n in range(1, 5))
PARTITION = PartitionId(bytes(9) + b"\x07")
NOW = Now(10.0, 1_700_000_000_000)
FIRST = HomeSet.first((A, B, C))
MOVED = FIRST.change(LeaseNumber(3, A), (A, B, D)).commit()


class Clustered:
    """Node A, as far as strays see it."""

    def __init__(
        self, record: HomeSet = MOVED, *, leads: bool = True, wanted: tuple[NodeId, ...] = (A, B, D)
    ):
        self.me = A
        self.sent: list[tuple[NodeId, Message]] = []
        self.unled: list[PartitionId] = []
        self.copies: dict[PartitionId, object] = {}
        self.on_disk = False
        self.wanted = lambda partition: wanted
        self.cluster: Any = SimpleNamespace(
            leaders={},
            leads=lambda partition: leads,
            holder=lambda partition: None,
            homes=lambda partition, first: max(record, first),
            streams=SimpleNamespace(number=lambda partition: LeaseNumber(5, A)),
            copies=SimpleNamespace(
                find=self.copies.get, copy_of=lambda id_: self.copies.setdefault(id_, object())
            ),
        )
        clustering: Any = self
        self.strays = Strays(clustering, lambda now, partition: self.unled.append(partition))
        self.strays.begin()

    def send(self, node: NodeId, message: Message) -> None:
        self.sent.append((node, message))

    def read(self, now: Now, procedure: Any, then: Any) -> None:
        next(procedure)
        try:
            procedure.send(Rows([(b"k", b"v")] if self.on_disk else []))
        except StopIteration as end:
            then(now, end.value)

    def answers(self, sender: NodeId, record: HomeSet = MOVED) -> list[type[Message]]:
        """Return what is sent to a node that asks who leads."""
        assert self.strays.receive(NOW, sender, WhoLeads(PARTITION, record.fields()))
        assert all(node == sender for node, _ in self.sent)
        return [type(message) for _, message in self.sent]


def test_who_is_no_home_is_told_that_its_copy_is_not_needed() -> None:
    assert Clustered().answers(C) == [LedBy, Dropped]


def test_who_was_away_when_the_homes_changed_is_told_of_that_too() -> None:
    assert Clustered().answers(C, FIRST) == [LedBy, Committed, Dropped]


def test_a_copy_is_kept_that_may_be_needed() -> None:
    assert Clustered().answers(B) == [LedBy], "of a home"
    assert Clustered(wanted=(A, B, C)).answers(C) == [LedBy], "of one that is to be a home"
    assert Clustered(leads=False).answers(C) == [LedBy], "nobody leads, who could know"
    changing = MOVED.change(LeaseNumber(4, A), (A, B, D))
    assert Clustered(changing).answers(C) == [LedBy], "the homes change"
    reformed = HomeSet(2, NO_LEASE, (A, D), (A, D), True)
    assert Clustered(reformed).answers(C, reformed) == [LedBy], "the homes are what was left of others"


def test_what_is_on_disk_is_found_once() -> None:
    node = Clustered()
    node.on_disk = True
    assert not node.strays.holds(NOW, PARTITION)
    assert node.strays.holds(NOW, PARTITION)
    node.copies.clear()
    assert not node.strays.holds(NOW, PARTITION)
    assert not node.copies, "it was looked for a second time"


def test_so_many_partitions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "MOST_LOOKED", 3)
    here = Clustered()
    for n in range(10):
        here.strays.holds(NOW, PartitionId(bytes(9) + bytes([n])))
        assert len(here.strays._looked) <= 3


def test_so_many_questions_are_asked_in_one_step() -> None:
    node = Clustered()
    for _ in range(2 * ASK_AT_ONCE):
        node.strays.ask(PARTITION, MOVED, (A, B, D))
    assert [node for node, _ in node.sent] == [B, D] * ASK_AT_ONCE


def test_who_says_that_it_does_not_lead_is_not_believed_to() -> None:
    node = Clustered(leads=False)
    leaders = node.cluster.leaders
    leaders[PARTITION] = B
    node.strays.receive(NOW, C, LedBy(PARTITION, b""))
    node.strays.receive(NOW, B, LedBy(PARTITION, B))
    assert leaders == {PARTITION: B}
    assert not node.unled
    node.strays.receive(NOW, B, LedBy(PARTITION, D))
    assert leaders == {PARTITION: D}
    assert not node.unled
    node.strays.receive(NOW, D, LedBy(PARTITION, b""))
    assert not leaders
    assert node.unled == [PARTITION]
