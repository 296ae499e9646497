"""Debts that are taken in while the disk is being read where they go: the read does not see them.

Found on real nodes: three messages that had been answered as stored were lost.  The leader took them for
lacking, for what it had read was older than what it wrote; it believed that the home that had them lacked
them, too, and whoever had kept them had been told that they were taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dmqnode.clock import Now
from dmqnode.disk import perform_read
from dmqnode.ids import NodeId, partition_id
from dmqnode.messages import Receive
from dmqnode.missing import SURE
from dmqnode.partition import Partition
from dmqnode.queue import Queue
from dmqnode.taking import Taking
from tests.dmqnode.several import Several
from tests.dmqnode.world import got

NAMES = ("n1", "n2", "n3")


def read_while_taken(monkeypatch: pytest.MonkeyPatch, cluster: Several) -> list[Callable[[], None]]:
    """Have leaders read where debts go as they are taken in; return what tells them the rows."""
    late: list[Callable[[], None]] = []
    take = Taking._take

    def taken(self: Taking, now: Now, hosted: Partition, sender: NodeId, shard: Queue, *rest: Any) -> None:
        take(self, now, hosted, sender, shard, *rest)
        broker = self._broker
        (node,) = [n for n in cluster.nodes.values() if n.broker is broker]
        broker.deliveries.serve(now, shard)
        for number, read in broker.reads.take_wanted():
            rows = perform_read(node.store, read)
            late.append(lambda number=number, rows=rows: broker.read_done(cluster.now(), number, rows))  # type: ignore[misc]

    monkeypatch.setattr(Taking, "_take", taken)
    return late


def test_what_comes_while_it_is_read_where_it_goes_is_not_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Several(*NAMES)
    late = read_while_taken(monkeypatch, cluster)
    cluster.create()
    assert cluster.receive("n1", wait=0.1) == []
    (queue,) = cluster.nodes["n1"].broker.registry.every()
    leader = cluster.leader(partition_id(queue.definition.id, 0))
    others = [name for name in NAMES if name != leader.name]
    cluster.run(3.0)
    cluster.kill(leader.name)
    for name in others:
        cluster.nodes[name].request(Receive("q", 10, 1 << 20, 60.0, None))
    cluster.stored(others[0], b"kept")
    cluster.until(lambda: late)
    cluster.run(5.0)
    for tell in late:
        tell()
    shards = [shard for name in others for shard in cluster.nodes[name].clustering.hosted.shards.values()]
    logs = [log for shard in shards for hosted in shard.partitions for log in hosted.logs.values()]
    assert [(log.end, log.gaps.size) for log in logs] == [(1, 0)]
    for name in others:
        cluster.nodes[name].crank()
    cluster.run(2.0)
    answers = [answer for name in others for answer in cluster.nodes[name].replies.values()]
    assert [m.body for answer in answers for m in got(answer)] == [b"kept"]
    cluster.run(SURE + 10.0)
    assert sum(node.broker.counters.lost for node in cluster.nodes.values()) == 0
