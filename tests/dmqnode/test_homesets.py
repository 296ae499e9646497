"""Home sets: which record is newer, and what is a majority."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.errors import ProtocolError
from dmqnode.homesets import MAX_HOMES, NO_LEASE, HomeSet, LeaseNumber, majority, read_home_set
from dmqnode.ids import NodeId

A, B, C, D, E, F, G = (NodeId(bytes([n]) * 8) for n in range(1, 8))
NODES = st.sampled_from((A, B, C, D, E))
SETS = st.lists(NODES, min_size=1, max_size=5, unique=True).map(tuple)
NUMBERS = st.builds(LeaseNumber, st.integers(0, 4), NODES)
RECORDS = st.builds(HomeSet, st.integers(1, 3), NUMBERS, SETS, SETS, st.booleans())


@given(st.lists(RECORDS, min_size=3, max_size=3))
def test_newer_is_a_strict_order(records: list[HomeSet]) -> None:
    one, two, three = records
    assert not one.newer_than(one)
    assert not (one.newer_than(two) and two.newer_than(one))
    if one.newer_than(two) and two.newer_than(three):
        assert one.newer_than(three)
    if not one.newer_than(two) and not two.newer_than(one):
        # The world makes only one record of one age, but for being committed.
        assert (one.age, one.committed) == (two.age, two.committed)


def test_what_makes_a_record_newer() -> None:
    first = HomeSet.first((A, B, C))
    change = first.change(LeaseNumber(3, B), (A, B, D))
    assert change.version == 2
    assert change.old == (A, B, C)
    assert not change.committed
    assert change.newer_than(first)
    assert change.commit().newer_than(change)
    finished = change.renewed(LeaseNumber(4, A))
    assert finished.version == 2
    assert finished.newer_than(change.commit())
    assert LeaseNumber(3, B) < LeaseNumber(3, C) < LeaseNumber(3, C).above(A) == LeaseNumber(4, A)
    assert LeaseNumber(0, A) > NO_LEASE


@given(RECORDS, st.sets(NODES), st.sets(NODES))
def test_two_majorities_meet(record: HomeSet, one: set[NodeId], two: set[NodeId]) -> None:
    if record.has_majority(one) and record.has_majority(two):
        assert all(one & two & set(homes) for homes in record.sets)


@given(RECORDS, st.sets(NODES), st.integers(0, 5))
def test_a_quorum_is_one_of_each_set_that_counts(record: HomeSet, nodes: set[NodeId], least: int) -> None:
    needed = [record.new] if record.committed else [record.old, record.new]
    expected = all(
        len(nodes & set(homes)) >= max(majority(homes), min(least, len(homes))) for homes in needed
    )
    assert record.has_quorum(nodes, least) == expected
    assert set(record.members) == set().union(*needed)
    assert len(record.members) == len(set(record.members))
    assert record.members[: len(record.new)] == record.new


def test_a_change_needs_both_sets() -> None:
    change = HomeSet.first((A, B, C)).change(LeaseNumber(1, A), (C, D, E))
    assert not change.has_majority((A, B))
    assert not change.has_majority((C, D, E))
    assert change.has_majority((B, C, D))
    assert change.commit().has_majority((D, E))


@given(RECORDS)
def test_a_record_reads_as_it_was_written(record: HomeSet) -> None:
    assert read_home_set(record.fields()) == record
    assert read_home_set(list(record.fields())) == record


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        7,
        (1, 0, A, [A], [A]),
        (0, 0, A, [A], [A], True),
        (1, -1, A, [A], [A], True),
        (1, 0, b"short", [A], [A], True),
        (1, 0, A, [], [A], True),
        (1, 0, A, [A], [A, A], True),
        (1, 0, A, [A], [A, b"long" * 4], True),
        (1, 0, A, [A], [bytes([n]) * 8 for n in range(MAX_HOMES + 1)], True),
        (1, 0, A, [A], 5, True),
        (1, 0, 2**70, [A], [A], True),
        ("1", 0, A, [A], [A], True),
    ],
)
def test_what_is_no_record_is_refused(fields: Any) -> None:
    with pytest.raises(ProtocolError):
        read_home_set(fields)


def _majorities(record: HomeSet) -> list[set[NodeId]]:
    nodes = sorted(set(record.members))
    some = [set(found) for n in range(len(nodes) + 1) for found in combinations(nodes, n)]
    return [found for found in some if record.has_majority(found)]


@pytest.mark.parametrize(
    "record",
    [
        HomeSet.first((A, B, C, D)),
        HomeSet.first((A, B, C, D, E, F)),
        HomeSet.first((A, B, C, D)).change(LeaseNumber(3, B), (A, B, C, E)),
        HomeSet.first((A, B, D, E)).change(LeaseNumber(3, B), (A, B, C)),
    ],
)
def test_of_an_even_number_of_homes_one_can_be_done_without(record: HomeSet) -> None:
    smaller = record.without((G, D, C))
    assert D in record.old
    assert D not in smaller.members
    assert all(
        one & two for one in _majorities(record) + _majorities(smaller) for two in _majorities(smaller)
    )
    assert smaller.newer_than(record) == record.committed
    assert smaller.without((D,)) == smaller


@pytest.mark.parametrize("homes", [(A, D), (A, B, D), (A, B, C, D, E)])
def test_of_two_or_of_an_odd_number_none_can(homes: tuple[NodeId, ...]) -> None:
    record = HomeSet.first(homes)
    assert record.without((D,)) is record
