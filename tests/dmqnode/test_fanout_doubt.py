"""Requests of which one leader does its part and another does not, or cannot tell: what is said then (Q2)."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode_rows
from dmqnode.ids import choose_partition, partition_id
from dmqnode.messages import Failed, PurgeQueue, Receive, Send
from tests.dmqnode.several import Several
from tests.dmqnode.world import got

ON_ITS_WAY = 0.0035
"""Seconds in which a request gets to its leader and its copy, and no answer comes back."""


def led(cluster: Several, name: str) -> list[str]:
    """Return groups whose partitions a node leads."""
    queue = cluster.nodes["n1"].broker.registry.find("q").definition
    count = queue.settings.partitions
    groups = [f"g{n}" for n in range(40)]
    at = {g: cluster.leader(partition_id(queue.id, choose_partition(count, g))).name for g in groups}
    return [group for group in groups if at[group] == name]


def spread(**settings: int) -> Several:
    """Return a cluster with a queue whose six partitions are led by several nodes."""
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=6, **settings)
    assert cluster.receive("n1", wait=0.0) == []
    cluster.run(3.0)
    return cluster


def send(rows: list[tuple[bytes, str]]) -> Send:
    blob = encode_rows([(body, {"g": group}) for body, group in rows]).blob
    return Send("q", b"p" * 16, 2, 0, None, False, blob)


def test_what_may_be_stored_is_not_hidden_behind_what_another_refused() -> None:
    cluster = spread()
    here, there = led(cluster, "n1")[0], led(cluster, "n2")[0]
    n1 = cluster.nodes["n1"]
    refused = n1.broker.sends
    limit, refused.unstored = refused.unstored, 1 << 40  # this node takes nothing more in
    number = n1.request(send([(b"refused", here), (b"of another task", there)]))
    refused.unstored = limit
    cluster.run(ON_ITS_WAY)
    cluster.cut("n1")
    cluster.until(lambda: number in n1.replies)
    answer = n1.replies.pop(number)
    assert isinstance(answer, Failed)
    assert answer.stored == "unknown"
    assert [m.body for m in cluster.receive("n2", wait=10.0)] == [b"of another task"]


def test_a_body_that_is_too_long_is_refused_before_others_are_stored() -> None:
    cluster = spread(max_message_size=1000)
    groups = [*led(cluster, "n1")[:2], *led(cluster, "n2")[:2], *led(cluster, "n3")[:2]]
    rows = [(b"fits", group) for group in groups]
    rows[3] = (b"L" * 2000, groups[3])
    answer = cluster.ask("n1", send(rows))
    assert isinstance(answer, Failed)
    assert (answer.code, answer.stored) == ("too-large", "no")
    assert cluster.receive("n1", wait=1.0) == []


def purged_and_cut_off() -> tuple[Several, str, str, int]:
    """Return a cluster, who leads, and who is cut off, having asked it for a purge that is done."""
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"old")
    cluster.run(3.0)
    queue = cluster.nodes["n1"].broker.registry.find("q").definition
    leader = cluster.leader(partition_id(queue.id, 0)).name
    front = next(name for name in cluster.nodes if name != leader)
    number = cluster.nodes[front].request(PurgeQueue("q"))
    cluster.run(ON_ITS_WAY)
    cluster.cut(front)
    return cluster, leader, front, number


def test_a_purge_whose_answer_is_lost_may_be_done() -> None:
    cluster, leader, front, number = purged_and_cut_off()
    cluster.until(lambda: number in cluster.nodes[front].replies)
    answer = cluster.nodes[front].replies.pop(number)
    assert cluster.receive(leader, wait=5.0) == []
    assert isinstance(answer, Failed)
    assert answer.stored == "unknown"


def test_a_purge_is_not_done_again_when_more_has_come() -> None:
    cluster, leader, front, number = purged_and_cut_off()
    cluster.run(0.5)
    cluster.stored(leader, b"new")
    for name in cluster.nodes:
        cluster.link(front, name)
        cluster.link(name, front)
    cluster.until(lambda: number in cluster.nodes[front].replies)
    cluster.run(20.0)
    assert [m.body for m in cluster.receive(leader, wait=5.0)] == [b"new"]


def test_of_a_purge_that_is_done_in_part_it_is_not_said_that_it_is_not_done() -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    cluster.create(partitions=6)
    for n in range(12):
        cluster.stored("n1", b"%d" % n, producer=b"%016d" % n)
    cluster.run(3.0)
    for name in ("n3", "n4"):
        cluster.kill(name)
    cluster.run(3.0)
    answer = cluster.ask("n1", PurgeQueue("q"))
    assert sum(cluster.nodes[name].broker.counters.purged for name in ("n1", "n2"))
    assert isinstance(answer, Failed)
    assert answer.stored == "unknown"


@pytest.mark.parametrize("after", [1.0, 6.0])
def test_who_waits_hears_of_a_partition_that_has_another_leader_by_then(after: float) -> None:
    cluster = spread()
    n1, queue = cluster.nodes["n1"], cluster.nodes["n1"].broker.registry.find("q").definition
    group = led(cluster, "n2")[0]
    partition = partition_id(queue.id, choose_partition(6, group))
    number = n1.request(Receive("q", 10, 1 << 20, 1000.0, None))
    cluster.run(after)
    old = cluster.leader(partition)
    old.clustering.cluster.hand_over(cluster.now(), partition, cluster.nodes["n3"].me)
    old.crank()
    cluster.run(10.5)
    assert number not in n1.replies
    assert not isinstance(cluster.ask("n2", send([(b"x", group)])), Failed)
    cluster.run(1.0)
    answer = n1.replies.pop(number)
    assert [m.body for m in got(answer)] == [b"x"]


@pytest.mark.parametrize("wait", [6.0, 12.0, 16.0])
def test_who_waits_is_answered_in_time_though_nobody_leads_a_partition(wait: float) -> None:
    cluster = Several("n1", "n2", "n3", "n4", "n5", "n6")
    cluster.create(partitions=2)
    cluster.receive("n1", wait=0.0)
    cluster.run(3.0)
    queue = cluster.nodes["n1"].broker.registry.find("q").definition
    wanted = cluster.nodes["n1"].clustering.wanted(partition_id(queue.id, 0))
    for node in list(cluster.nodes.values()):
        if node.me in wanted[-2:]:
            cluster.kill(node.name)
    front = next(node for node in cluster.nodes.values() if node.up)
    number = front.request(Receive("q", 10, 1 << 20, wait, None))
    begun = cluster.time
    cluster.until(lambda: number in front.replies, wait + 20.0)
    assert cluster.time - begun < wait + 1.5
