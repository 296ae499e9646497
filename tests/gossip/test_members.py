"""The list of members: room, order of probes, choices at random."""

from __future__ import annotations

import random

from gossip.members import Entry, Members
from gossip.messages import Status
from tests.gossip.lone import ALIVE, DEAD, LEFT, SUSPECT, member


def of(count: int, limit: int = 1000) -> Members:
    members = Members(limit, random.Random(1))
    for number in range(count):
        members.add(member(f"n{number}"), ALIVE, float(number))
    return members


def entry(members: Members, number: int) -> Entry:
    found = members.get(member(f"n{number}").id)
    assert found is not None
    return found


def test_its_size_counts_this_node_and_those_that_are_there() -> None:
    members = of(4)
    assert members.size == 5
    for number, status in enumerate((SUSPECT, DEAD, LEFT)):
        members.move(entry(members, number), status, 9.0)
    assert members.size == 3
    assert entry(members, 1).since == 9.0
    members.move(entry(members, 1), ALIVE, 10.0)
    assert members.size == 4
    members.remove(entry(members, 1))
    members.remove(entry(members, 2))
    assert (members.size, len(members)) == (3, 2)


def test_every_round_has_each_member_once_in_another_order() -> None:
    members = of(20)
    rounds = [[members.next_to_probe() for _ in range(20)] for _ in range(3)]
    names = [[e.member.name for e in found if e is not None] for found in rounds]
    assert sorted(names[0]) == sorted(names[1]) == sorted(f"n{i}" for i in range(20))
    assert names[0] != names[1] != names[2]


def test_those_that_are_gone_are_not_probed() -> None:
    members = of(3)
    for number in range(3):
        members.move(entry(members, number), DEAD, 1.0)
    assert members.next_to_probe() is None
    members.move(entry(members, 1), SUSPECT, 2.0)
    assert members.next_to_probe() is entry(members, 1)
    assert of(0).next_to_probe() is None


def test_a_newcomer_is_probed_within_the_round_it_came_in() -> None:
    members = of(10)
    for _ in range(3):
        members.next_to_probe()
    members.add(member("new"), ALIVE, 0.0)
    names = [found.member.name for _ in range(8) if (found := members.next_to_probe())]
    assert "new" in names
    assert len(set(names)) == 8


def test_with_many_coming_and_going_the_round_stays_bounded() -> None:
    members = of(0, limit=5)
    for number in range(100):
        new, _ = members.add(member(f"x{number}"), DEAD, float(number))
        assert new is not None
    assert len(members) == 5
    assert len(members._round) <= 11
    assert [e.member.name for e in members.all()] == [f"x{i}" for i in range(95, 100)]


def test_choices_are_different_wanted_and_not_more_than_asked() -> None:
    for count in (2, 10, 500):
        members = of(count)
        members.move(entry(members, 0), DEAD, 1.0)
        for _ in range(50):
            chosen = members.choose(3, lambda e: e.status is Status.ALIVE)
            assert len({e.member.id for e in chosen}) == len(chosen) <= 3
            assert len(chosen) == min(3, count - 1) or count == 500
            assert all(e.status is Status.ALIVE for e in chosen)
    assert of(0).choose(3, lambda e: True) == []
