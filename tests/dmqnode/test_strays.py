"""Copies that nobody needs are given back, and who is wrongly believed to lead is found out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dmqnode import strays
from dmqnode.clock import Now
from dmqnode.homesets import MAX_HOMES, NO_LEASE, HomeSet, LeaseNumber
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message
from dmqnode.peer_messages import Committed, Dropped, LedBy, WhoLeads
from dmqnode.reads import Rows
from dmqnode.roster import ROSTER
from dmqnode.strays import ASK_AT_ONCE, OFFERED, Strays

A, B, C, D, E = (NodeId(bytes([n] * 8)) for n in range(1, 6))
PARTITION = PartitionId(bytes(9) + b"\x07")
NOW = Now(10.0, 1_700_000_000_000)
FIRST = HomeSet.first((A, B, C))
ANEW = HomeSet(2, NO_LEASE, (A, B, D), (A, B, D), True)
MOVED = FIRST.change(LeaseNumber(3, A), (A, B, D)).commit()


class Promises(dict[PartitionId, Any]):
    """What node A has promised."""

    find = dict.get

    def __iter__(self) -> Any:
        return iter(self.items())


class Clustered:
    """Node A, as far as strays see it."""

    def __init__(
        self,
        record: HomeSet = MOVED,
        *,
        leads: bool = True,
        known: bool = True,
        whole: bool = True,
        wanted: tuple[NodeId, ...] = (A, B, D),
    ):
        self.me = A
        self.sent: list[tuple[NodeId, Message]] = []
        self.unled: list[PartitionId] = []
        self.copies: dict[PartitionId, object] = {}
        self.on_disk = False
        self.wanted = lambda partition: wanted
        self.reachable = lambda node: node != E
        self.cluster: Any = SimpleNamespace(
            leaders={},
            leads=lambda partition: leads,
            holder=lambda partition: None,
            homes=lambda partition, first: max(record, first),
            grants=Promises({PARTITION: SimpleNamespace(record=record)}),
            leases=SimpleNamespace(known=lambda partition: known),
            streams=SimpleNamespace(
                number=lambda partition: LeaseNumber(5, A), whole=lambda partition, owed: whole
            ),
            copies=SimpleNamespace(
                find=self.copies.get, copy_of=lambda id_: self.copies.setdefault(id_, object())
            ),
        )
        clustering: Any = self
        self.strays = Strays(clustering, lambda now, partition: self.unled.append(partition))
        self.strays.begin(NOW)

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
    assert Clustered(known=False).answers(C) == [LedBy], "most new homes may forget that they are these"
    assert Clustered(whole=False).answers(C) == [LedBy], "too few of the new homes have everything"
    changing = MOVED.change(LeaseNumber(4, A), (A, B, D))
    assert Clustered(changing).answers(C) == [LedBy], "the homes change"
    assert Clustered(ANEW).answers(C, ANEW) == [LedBy], "the homes are what was left of others"


def test_who_has_a_copy_that_homes_formed_anew_may_not_know_is_to_be_a_home_for_a_while() -> None:
    node = Clustered(ANEW)
    assert node.strays.wanted(PARTITION) == (A, B, D)
    for sender in (C, E):
        node.sent.clear()
        node.answers(sender, ANEW)
    assert node.strays.wanted(PARTITION) == (A, B, D, C), "it is, unless it does not answer"
    node.strays.begin(NOW._replace(run=NOW.run + OFFERED / 2))
    assert node.strays.wanted(PARTITION) == (A, B, D, C)
    node.strays.begin(NOW._replace(run=NOW.run + OFFERED))
    assert node.strays.wanted(PARTITION) == (A, B, D), "it asks no more"


def test_once_homes_formed_anew_have_changed_nobody_else_is_waited_for() -> None:
    node = Clustered(ANEW)
    node.answers(C, ANEW)
    changed = ANEW.change(LeaseNumber(4, A), (A, B, D, C)).commit()
    node.cluster.grants[PARTITION] = SimpleNamespace(record=changed)
    assert node.strays.wanted(PARTITION) == (A, B, D)


def test_room_is_made_for_who_has_a_copy() -> None:
    many = tuple(NodeId(bytes([n] * 8)) for n in range(11, 11 + MAX_HOMES))
    node = Clustered(ANEW, wanted=many)
    for sender in (C, D, E, *(NodeId(bytes([n] * 8)) for n in range(31, 41))):
        node.sent.clear()
        node.answers(sender, ANEW)
    assert len(node.strays._offered[PARTITION]) <= MAX_HOMES
    assert node.strays.wanted(PARTITION) == (*many[:-1], C)


def test_of_the_list_of_members_no_copy_is_taken_in() -> None:
    node = Clustered(ANEW)
    assert node.strays.receive(NOW, C, WhoLeads(ROSTER, ANEW.fields()))
    assert [type(message) for _, message in node.sent] == [LedBy, Dropped]


def test_what_is_on_disk_is_found_once() -> None:
    node = Clustered()
    node.on_disk = True
    assert not node.strays.holds(NOW, PARTITION)
    assert node.strays.holds(NOW, PARTITION)
    node.copies.clear()
    assert not node.strays.holds(NOW, PARTITION)
    assert not node.copies, "it was looked for a second time"


def test_what_was_promised_before_the_start_may_be_here_until_it_was_looked_for() -> None:
    other = PartitionId(bytes(9) + b"\x08")
    node = Clustered()
    assert not node.strays.may_hold(NOW, other)
    assert node.strays.may_hold(NOW, PARTITION)
    assert not node.strays.may_hold(NOW, PARTITION)
    clustering: Any = node
    began = Strays(clustering, lambda now, partition: None)
    assert began.may_hold(NOW, other), "it is not known yet what was promised"


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
