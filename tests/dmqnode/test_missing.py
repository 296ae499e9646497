"""What no home is believed to have is looked for on all disks before it is given up."""

from __future__ import annotations

import pytest

from dmqnode.ids import partition_id
from dmqnode.missing import SURE
from dmqnode.ranges import RangeSet
from storage.ops import WriteBatch
from tests.dmqnode.several import Several

NAMES = ("n1", "n2", "n3")


@pytest.mark.parametrize("held", [NAMES, ("n1",), ("n2",), ("n3",), ()])
def test_only_what_is_on_no_disk_is_lost(held: tuple[str, ...]) -> None:
    cluster = Several(*NAMES)
    cluster.create()
    cluster.stored("n1", b"a")
    cluster.run(3.0)
    (queue,) = cluster.nodes["n1"].broker.registry.every()
    partition = partition_id(queue.definition.id, 0)
    leader = cluster.leader(partition)
    (hosted,) = leader.clustering.hosted.shards[partition].partitions
    (log,) = [log for log in hosted.logs.values() if log.end]
    key = hosted.keys.batch(log.id, 0)
    for name in [n for n in NAMES if n not in held]:
        gone = WriteBatch()
        gone.delete(key)
        cluster.nodes[name].store.write(gone, sync=True)
    # All are believed to lack it, rightly or not.
    log.gaps.add(0, 1)
    stream = leader.clustering.cluster.streams.of(partition)
    assert stream is not None
    for follower in stream.followers.values():
        follower.gaps = {log.id: RangeSet([(0, 1)])}
    cluster.run(SURE + 10.0)
    assert leader.broker.counters.lost == (0 if held else 1)
    if held:
        assert [m.body for m in cluster.receive("n1", wait=0.5)] == [b"a"]
        assert all(node.store.get(key) is not None for node in cluster.nodes.values())
