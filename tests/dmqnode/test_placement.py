"""Placement: the same everywhere, balanced, spread over zones, and moving little."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.ids import NodeId, PartitionId
from dmqnode.placement import Place, homes, rank


def node(n: int) -> NodeId:
    return NodeId(blake2b(b"node %d" % n, digest_size=8).digest())


def partition(n: int) -> PartitionId:
    return PartitionId(blake2b(b"partition %d" % n, digest_size=10).digest())


PARTITIONS = [partition(n) for n in range(1000)]
FIVE = [Place(node(n)) for n in range(5)]


def shares(places: list[Place], replicas: int) -> Counter[NodeId]:
    return Counter(n for p in PARTITIONS for n in homes(p, places, replicas))


@pytest.mark.parametrize("replicas", [2, 3])
def test_equal_members_hold_equal_shares(replicas: int) -> None:
    mean = len(PARTITIONS) * replicas / 5
    assert all(abs(held - mean) <= 0.15 * mean for held in shares(FIVE, replicas).values())


def test_leading_is_spread_too() -> None:
    firsts = Counter(homes(p, FIVE, 3)[0] for p in PARTITIONS)
    assert all(abs(led - 200) <= 50 for led in firsts.values())


def test_shares_follow_the_weights() -> None:
    places = [Place(node(n), weight=w) for n, w in enumerate((1.0, 1.0, 2.0, 4.0))]
    held = shares(places, 1)
    for place in places:
        expected = 1000 * place.weight / 8
        assert abs(held[place.node] - expected) <= 0.15 * expected + 10


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.01, 100), st.floats(1.01, 10))
def test_who_weighs_more_takes_more_and_nothing_moves_between_the_others(
    p: int, replicas: int, weight: float, times: float
) -> None:
    light, heavy = (Place(node(9), weight=w) for w in (weight, weight * times))
    before = homes(partition(p), [*FIVE, light], replicas)
    after = homes(partition(p), [*FIVE, heavy], replicas)
    if heavy.node in before:
        assert set(after) == set(before)
        assert after.index(heavy.node) <= before.index(heavy.node)
    else:
        assert {n for n in after if n not in before} <= {heavy.node}


def test_a_weight_of_zero_takes_nothing() -> None:
    places = [*FIVE, Place(node(9), weight=0.0)]
    assert node(9) not in shares(places, 3)
    assert homes(partition(1), [Place(node(9), weight=0.0)], 3) == ()


def test_who_joins_takes_only_what_it_wins_and_who_leaves_moves_only_what_it_had() -> None:
    new = Place(node(5))
    moved = 0
    for p in PARTITIONS:
        before, after = homes(p, FIVE, 3), homes(p, [*FIVE, new], 3)
        gone = [n for n in before if n not in after]
        assert [n for n in after if n not in before] == [new.node] * len(gone)
        assert len(gone) <= 1
        assert [n for n in after if n != new.node] == [n for n in before if n not in gone]
        moved += len(gone)
    assert 0.85 * 500 <= moved <= 1.15 * 500  # half of a thousand: 3 copies on 6 nodes


ZONED = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("abcd"), st.sampled_from((0.5, 1.0, 3.0))),
    min_size=1,
    max_size=9,
    unique_by=lambda t: t[0],
).map(lambda rows: [Place(node(n), zone, weight) for n, zone, weight in rows])


@given(ZONED, st.integers(0, 10**6), st.integers(1, 5))
def test_no_zone_has_two_copies_while_another_has_none(places: list[Place], p: int, replicas: int) -> None:
    chosen = homes(partition(p), places, replicas)
    assert len(set(chosen)) == len(chosen) == min(replicas, len(places))
    assert chosen[0] == rank(partition(p), places)[0]
    zones = {place.node: place.zone for place in places}
    size = Counter(zones.values())
    used = Counter(zones[n] for n in chosen)
    for zone in size:
        # A zone with fewer copies than another has no more members to give.
        assert used[zone] >= max(used.values()) - 1 or used[zone] == size[zone]


@given(ZONED, st.integers(0, 10**6), st.integers(1, 5), st.randoms())
def test_the_order_of_the_members_does_not_matter(
    places: list[Place], p: int, replicas: int, shuffle: object
) -> None:
    mixed = list(places)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    assert homes(partition(p), mixed, replicas) == homes(partition(p), places, replicas)


@given(ZONED, st.integers(0, 10**6))
def test_with_zones_a_member_that_joins_moves_at_most_two_copies(places: list[Place], p: int) -> None:
    before = homes(partition(p), places[1:], 3)
    after = homes(partition(p), places, 3)
    # Its zone may give up the copy it had, and a zone that had two may give up one.
    assert len([n for n in before if n not in after]) <= 2
    if places[0].node not in after:
        assert after == before


def test_every_process_places_alike() -> None:
    code = (
        "from tests.dmqnode.test_placement import FIVE, homes, partition\n"
        "print([homes(partition(n), FIVE, 3) for n in range(20)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{[homes(partition(n), FIVE, 3) for n in range(20)]}\n".encode()}
