"""A leader and its homes compare what they hold: what was damaged on a disk is mended before it is needed."""

from __future__ import annotations

import random

import pytest

from dmqnode import comparing
from tests.simulation.likeness import unlike
from tests.simulation.plan import PLAIN, WIDE, Plan
from tests.simulation.world import World


def damage(world: World, letter: bytes, *, leaders: bool) -> int:
    """Damage a small record of each partition on one disk: its leader's, or that of a home that follows."""
    damaged = 0
    for host in world.hosts.values():
        cluster = host.clustering.cluster
        for stream in cluster.streams:
            where = host if leaders else world.hosts[next(iter(stream.followers))]
            keys = [k for k in where.store._keys if k.startswith(stream.keys.prefix + letter)]
            if keys and stream.partition[:8] != bytes(8):
                where.store.damage(keys[0], random.Random(1))
                damaged += 1
    return damaged


@pytest.mark.parametrize("leaders", [False, True])
@pytest.mark.parametrize("letter", [b"l", b"d"])
def test_a_damaged_record_is_mended_before_anybody_needs_it(
    letter: bytes, leaders: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "EVERY", 2.0)
    world = World(3, Plan(queues=(PLAIN, WIDE), seconds=10.0))
    world.at(6.0, lambda: damage(world, letter, leaders=leaders) or pytest.fail("nothing was damaged"))
    seen: list[int] = []
    world.at(6.0, lambda: seen.append(len(unlike(world))))
    world.run()
    assert seen[0] or letter == b"d"


def test_copies_that_are_alike_are_found_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "EVERY", 1.0)
    judged: list[bool] = []
    original = comparing.Comparing._judge

    def judge(self: comparing.Comparing, stream: object, comparison: comparing.Comparison) -> None:
        judged.extend(other == comparison.own for other in comparison.others.values() if comparison.own)
        original(self, stream, comparison)  # type: ignore[arg-type]

    monkeypatch.setattr(comparing.Comparing, "_judge", judge)
    world = World(4, Plan(queues=(PLAIN, WIDE), seconds=8.0)).run()
    assert len(judged) > 10
    assert all(judged)
    assert world.ledger.counts["duplicated"] == 0
