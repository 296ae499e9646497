"""A leader and its homes compare what they hold: what was damaged on a disk is mended before it is needed."""

from __future__ import annotations

import random

import pytest

from dmqnode import comparing
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message
from dmqnode.peer_messages import Align
from dmqnode.smallrows import decode_rows, describe
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
                where.rotten = True  # of such a log it does not know what is dead, and may keep it
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


def test_a_leader_tells_nobody_to_delete_what_its_own_disk_has_lost() -> None:
    world = World(3, Plan(queues=(PLAIN,), seconds=10.0))
    told: list[bool] = []
    heard = world.heard

    def listen(sender: NodeId, receiver: NodeId, message: Message) -> None:
        heard(sender, receiver, message)
        if isinstance(message, Align) and message.partition[:8] != bytes(8) and world.now > 6.0:
            shard = world.hosts[sender].clustering.hosted.shards[PartitionId(message.partition)]
            logs = describe(decode_rows(message.rows)).logs
            told.append(all(log in logs for p in shard.partitions for log in p.logs))

    world.heard = listen  # type: ignore[method-assign]

    def harm() -> None:
        damage(world, b"l", leaders=True)
        hosts = world.hosts.values()
        led = {h.me for h in hosts for s in h.clustering.cluster.streams if s.partition[:8] != bytes(8)}
        next(h for h in hosts if h.me not in led).die("kill", back=0.1)

    world.at(6.0, harm)
    world.run()
    assert told
    assert all(told)


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
