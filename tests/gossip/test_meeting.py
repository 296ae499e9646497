"""Which addresses are tried, and when a cluster is founded."""

from __future__ import annotations

import random

import pytest

from gossip.meeting import PRESENCE, Meeting
from gossip.messages import NodeId


def meeting(seeds: list[str], known: list[str] | None = None, limit: int = 100) -> Meeting:
    return Meeting(seeds, known or [], "me:1", limit, random.Random(1))


def tried(found: Meeting, count: int, *present: str) -> list[str | None]:
    return [found.next_to_try(lambda address: address in present) for _ in range(count)]


def test_every_address_has_its_turn_in_each_round_but_for_those_present() -> None:
    found = meeting(["s:1", "me:1"], ["a:1", "b:1", "c:1"])
    assert sorted(map(str, tried(found, 4))) == ["a:1", "b:1", "c:1", "s:1"]
    assert sorted(map(str, tried(found, 4))) == ["a:1", "b:1", "c:1", "s:1"]
    assert set(tried(found, 4, "s:1", "b:1")) == {"a:1", "c:1"}
    assert tried(found, 2, "a:1", "b:1", "c:1", "s:1") == [None, None]


def test_the_longest_silent_address_makes_room_a_seed_does_not() -> None:
    found = meeting(["s:1"], ["a:1", "b:1"], limit=2)
    assert not found.heard("a:1")
    assert found.heard("c:1")
    assert found.known() == ("a:1", "c:1")
    assert not found.heard("me:1")
    assert set(tried(found, 3)) == {"s:1", "a:1", "c:1"}


def test_the_address_of_one_that_left_is_dropped() -> None:
    found = meeting([], ["a:1"])
    assert found.drop("a:1")
    assert not found.drop("a:1")
    assert found.next_to_try(lambda address: False) is None


def test_an_address_that_turns_out_to_be_this_node_is_not_tried_again() -> None:
    found = meeting(["me-too:1"], ["alias:1"])
    found.is_own("me-too:1")
    found.is_own("alias:1")
    assert found.known() == ()
    assert found.next_to_try(lambda address: False) is None


def test_who_answers_at_another_name_is_remembered_for_known_addresses_only() -> None:
    found = meeting(["s:1"])
    for address in ("s:1", "unknown:1"):
        found.answers_at(address, NodeId(b"n" * 8))
    assert found.node_at("s:1") == b"n" * 8
    assert found.node_at("unknown:1") is None


@pytest.mark.parametrize(
    ("seeds", "answered", "founds"),
    [
        ([], [], True),
        (["me:1"], [], True),
        (["other:1"], ["other:1"], False),
        (["me:1", "z:1"], [], False),
        (["me:1", "z:1"], ["z:1"], True),
        (["me:1", "y:1", "z:1"], ["y:1"], True),
        (["me:1", "a:1", "z:1"], ["a:1", "z:1"], False),
        (["me:1", "w:1", "x:1", "y:1", "z:1"], ["w:1"], False),
        (["me:1", "z:1"], ["stranger:1"], False),
    ],
)
def test_who_founds_a_cluster(seeds: list[str], answered: list[str], founds: bool) -> None:
    found = meeting(seeds)
    for address in answered:
        found.without_cluster(100.0, address)
    assert found.may_found(101.0) is founds


def test_an_answer_of_long_ago_does_not_count_for_founding() -> None:
    found = meeting(["me:1", "z:1"])
    found.without_cluster(100.0, "z:1")
    assert not found.may_found(100.0 + PRESENCE)
