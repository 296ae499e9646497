"""What somebody owes comes as a debt, which says what it repeats, and is not looked for on disks (C5)."""

from __future__ import annotations

import pytest

from dmqnode.clock import Now
from dmqnode.ids import NodeId
from dmqnode.messages import Message
from dmqnode.missing import CLAIMED, HEARD, SURE
from dmqnode.peer_messages import Fetch
from dmqnode.ranges import RangeSet
from storage.ops import WriteBatch
from tests.dmqnode.several import Several, Some
from tests.dmqnode.test_missing import NAMES, believe, led, led_with_one_away


def test_what_a_node_owes_or_may_still_say_that_it_owes_is_not_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was found beside the send that it repeats, where it had been taken in and nobody followed (C5)."""
    cluster, leader, hosted, log = led([b"a", b"b"])
    looks = list[tuple[float, int]]()
    carry = Several.carry

    def counted(self: Several, sender: Some, to: NodeId, message: Message) -> None:
        if isinstance(message, Fetch):
            looks.append((self.time, message.low))
        carry(self, sender, to, message)

    monkeypatch.setattr(Several, "carry", counted)
    for name in NAMES:
        gone = WriteBatch()
        for number in range(2):
            gone.delete(hosted.keys.batch(log.id, number))
        cluster.nodes[name].store.write(gone, sync=True)
    since = leader.clustering.hosted.absent._led[hosted.id][1]
    believe(leader, hosted, log, [(0, 2)])
    while cluster.time < since + HEARD + 2.0:
        leader.clustering.hosted.absent.claimed(
            Now(cluster.time, 0, 0.0), hosted.id, NodeId(b"k" * 8), {log.id: RangeSet([(0, 1)])}
        )
        cluster.run(0.5)
    assert {low for _, low in looks} == {1}
    assert min(looks)[0] >= since + HEARD
    claimed = cluster.time
    cluster.until(lambda: looks[-1][1] == 0, 2 * SURE)
    assert cluster.time >= claimed + CLAIMED - 1.0
    cluster.until(lambda: leader.broker.counters.lost == 2, 3 * SURE)


def test_what_a_member_owes_that_is_away_is_not_looked_for_and_holds_nothing_up() -> None:
    """It was found beside the send that it repeats, though only its keeper could have told that (C5)."""
    cluster, partition, homes = led_with_one_away(3)
    leader, away = cluster.leader(partition), next(n for n in cluster.nodes if n not in homes)
    (hosted,) = leader.clustering.hosted.shards[partition].partitions
    (log,) = [log for log in hosted.logs.values() if log.end]
    stream = leader.clustering.cluster.streams.of(partition)
    assert stream is not None
    owed = {log.id: RangeSet([(1, 2)])}
    leader.clustering.hosted.absent.claimed(cluster.now(), partition, cluster.nodes[away].me, owed)
    believe(leader, hosted, log, [(1, 3)])
    cluster.run(HEARD + CLAIMED + 2 * SURE)
    assert list(log.gaps) == [(1, 2)], "what nobody owes has been found"
    assert stream.missing == owed
    cluster.nodes[away].restart()
    for name in cluster.nodes:
        cluster.link(name, *cluster.nodes)
    cluster.until(lambda: not log.gaps.size, CLAIMED + SURE)


def test_a_lease_that_was_lost_and_won_again_is_a_new_one_for_those_that_owe_something() -> None:
    cluster, leader, hosted, _ = led([b"a"])
    absent = leader.clustering.hosted.absent
    stream = leader.clustering.cluster.streams.of(hosted.id)
    assert stream is not None
    cluster.run(HEARD)
    assert absent._heard(cluster.now(), hosted.id)
    stream.number = stream.number._replace(n=stream.number.n + 1)
    absent.step(cluster.now())
    assert not absent._heard(cluster.now(), hosted.id)
    cluster.time += HEARD
    assert absent._heard(cluster.now(), hosted.id)
