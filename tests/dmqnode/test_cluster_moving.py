"""Copies on their way: half deleted, not wanted after all, and not complete when the homes have changed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from dmqnode.ids import PartitionId, partition_id
from dmqnode.keys import PartitionKeys
from dmqnode.messages import Stored
from dmqnode.roster import Roster
from storage.ops import WriteBatch
from tests.dmqnode import several
from tests.dmqnode.several import Several, Some

PAGES = 1100
"""Messages whose batches are deleted in more than one step."""


class Crashed(Exception):
    """The node ends here."""


def filled(*names: str, count: int, size: int = 1) -> tuple[Several, PartitionId]:
    """Return a cluster with so many batches in a queue of one partition."""
    cluster = Several(*names)
    cluster.create()
    for _ in range(count):
        cluster.stored("n1", b"x" * size)
    cluster.run(5.0)
    queue = cluster.nodes["n1"].broker.registry.queues["q"]
    return cluster, partition_id(queue.definition.id, 0)


def weigh(cluster: Several, name: str, weight: float) -> None:
    """All that are up hear at once that a member has another weight."""
    up = [node for node in cluster.nodes.values() if node.up]
    old = up[0].clustering.rosters.current
    members = tuple(m._replace(weight=weight) if m.name == name else m for m in old.members)
    for node in up:
        node.clustering.rosters.learn(cluster.now(), Roster(old.version + 1, members, old.first_homes))
        node.crank()


def batches(node: Some, partition: PartitionId) -> int:
    """Return how many batches are on a node's disk."""
    start, stop = PartitionKeys.of(partition).batches()
    rows = node.store.scan(start, stop, limit=1 << 20, max_bytes=1 << 30).rows
    return sum(not row.key.endswith(b"\xff" * 8) for row in rows)  # else it says where batches end


def homes(cluster: Several, partition: PartitionId) -> set[str]:
    """Return the homes of a partition, empty while they change."""
    found = [n.clustering.cluster.grants.find(partition) for n in cluster.nodes.values() if n.up]
    record = max((p.record for p in found if p is not None), key=lambda r: (r.age, r.committed))
    return {several.name_of(node) for node in record.new} if record.committed else set()


def crash_while_deleting(cluster: Several, node: Some, partition: PartitionId) -> None:
    """End a node when the first page of its copy is deleted."""
    prefix, write = PartitionKeys.of(partition).batches()[0], node.store.write
    disk: Any = node.store

    def writes(batch: WriteBatch, **options: Any) -> None:
        write(batch, **options)
        if sum(record is None and key.startswith(prefix) for key, record in batch) > 100:
            disk.write = write
            raise Crashed

    disk.write = writes
    with pytest.raises(Crashed):
        cluster.until(lambda: False, 60.0)
    cluster.kill(node.name)


@pytest.mark.parametrize("replicas", [1, 3])
def test_half_a_copy_is_not_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch, replicas: int) -> None:
    config = several.NodeConfig
    quorum = min(2, replicas)
    monkeypatch.setattr(several, "NodeConfig", partial(config, replicas=replicas, write_quorum=quorum))
    cluster, partition = filled("n1", "n2", "n3", "n4", count=PAGES)
    whole = {name: batches(cluster.nodes[name], partition) for name in homes(cluster, partition)}
    assert set(whole.values()) == {PAGES}
    name = min(whole)
    node = cluster.nodes[name]
    weigh(cluster, name, 1e-6)
    crash_while_deleting(cluster, node, partition)
    assert name not in homes(cluster, partition)
    assert 0 < batches(node, partition) < PAGES
    weigh(cluster, name, 1e6)
    node.restart()
    for other in cluster.nodes:
        cluster.link(name, other)
        cluster.link(other, name)
    rosters = [n.clustering.rosters for n in cluster.nodes.values()]
    node.clustering.rosters.learn(cluster.now(), max((r.current for r in rosters), key=lambda r: r.version))
    cluster.until(lambda: name in homes(cluster, partition), 60.0)
    cluster.run(5.0)
    held = {name: batches(cluster.nodes[name], partition) for name in homes(cluster, partition)}
    assert set(held.values()) == {PAGES}, held


def test_who_is_not_wanted_after_all_follows_no_longer() -> None:
    cluster, partition = filled("n1", "n2", "n3", count=600, size=4000)
    before = homes(cluster, partition)
    for name in ("n4", "n5", "n6", "n7"):
        node = cluster.join(name)
        if node.me in node.clustering.wanted(partition):
            break
    cluster.until(lambda: batches(node, partition) > 20)
    assert homes(cluster, partition) == before, "it is complete already"
    weigh(cluster, name, 0.0)
    cluster.run(10.0)
    seen = set()
    for _ in range(10):
        cluster.stored("n1", b"more")
        cluster.run(1.0)
        seen.add((batches(node, partition), node.clustering.overview.homes_here(cluster.now())))
    assert seen == {(0, 0)}


def test_a_former_home_keeps_its_copy_until_what_the_new_ones_lack_is_filled_in() -> None:
    cluster, partition = filled("n1", "n2", "n3", "n4", count=1)
    leader, before = cluster.leader(partition), homes(cluster, partition)
    (new,) = [n for n in cluster.nodes.values() if n.name not in before]
    former, other = (n for n in cluster.nodes.values() if n.name in before and n is not leader)
    leases: Any = leader.clustering.cluster.leases
    propose, leases.propose = leases.propose, lambda *args: False
    weigh(cluster, former.name, 1e-6)
    stream = leader.clustering.cluster.streams.of(partition)
    assert stream is not None
    cluster.until(lambda: all(map(stream.complete, stream.followers.values())) and new.me in stream.followers)
    # For less than it takes to notice, what the leader says to two of them is lost.
    carries: Any = cluster
    carry = cluster.carry
    cut = (other.me, new.me)
    carries.carry = lambda sender, to, message: (
        None if sender is leader and to in cut else carry(sender, to, message)
    )
    assert isinstance(cluster.send(leader.name, b"precious"), Stored)
    leases.propose = propose
    leader.clustering.cluster._repair(cluster.now())
    carries.carry = carry
    pacing: Any = leader.clustering.cluster.streams.filling.pacing
    may_begin, pacing.may_begin = pacing.may_begin, lambda now, *, moves: False
    for node in (other, new):
        for one, two in ((leader, node), (node, leader)):
            one.clustering.gone(cluster.now(), two.me)
            one.crank()
    for node in (other, new):
        cluster.link(leader.name, node.name)
        cluster.link(node.name, leader.name)
    cluster.until(lambda: former.name not in homes(cluster, partition) and bool(homes(cluster, partition)))

    def having() -> set[str]:
        """Return whose disks have the message."""
        records = {n.name: peeked(n) for n in cluster.nodes.values()}
        return {name for name, found in records.items() if any(b"precious" in record for record in found)}

    cluster.run(8.0)  # longer than it takes to ask who needs a copy
    assert having() == {leader.name, former.name}
    pacing.may_begin = may_begin
    cluster.until(lambda: having() == {leader.name, other.name, new.name}, 60.0)


def peeked(node: Some) -> list[bytes]:
    """Return all records on a node's disk."""
    return [row.value for row in node.store.scan(b"", b"\xff", limit=1 << 20, max_bytes=1 << 30).rows]
