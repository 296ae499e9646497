"""The short way of a send: only where it comes to the same as the long one."""

from __future__ import annotations

from typing import Any

import pytest

from dmqnode.batch import encode
from dmqnode.ids import PartitionId
from dmqnode.messages import Failed, Message, Send, Stored
from tests.dmqnode.several import Several


def fresh() -> tuple[Several, str, str]:
    """Return a cluster with a queue of one partition in use, who leads that, and another node."""
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"first")
    leader = next(name for name in cluster.nodes if partition_led(cluster, name))
    return cluster, leader, next(name for name in cluster.nodes if name != leader)


def partition_led(cluster: Several, name: str) -> PartitionId | None:
    return next((p for p in cluster.nodes[name].clustering.hosted.shards), None)


def long_way_of(cluster: Several, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Return the sends that go the long way at a node."""
    fanout: Any = cluster.nodes[name].clustering.fanout
    seen: list[Message] = []
    receive = fanout.receive

    def noted(now: Any, session: int, number: int, request: Message) -> bool:
        seen.append(request)
        done: bool = receive(now, session, number, request)
        return done

    monkeypatch.setattr(fanout, "receive", noted)
    return seen


def test_the_leader_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, leader, other = fresh()
    at_leader = long_way_of(cluster, leader, monkeypatch)
    elsewhere = long_way_of(cluster, other, monkeypatch)
    cluster.stored(leader, b"second")
    cluster.stored(other, b"third")
    assert (len(at_leader), len(elsewhere)) == (0, 1)
    assert [m.body for m in cluster.receive(other)] == [b"first", b"second", b"third"]


def test_a_send_that_goes_by_more_partitions_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, leader, _ = fresh()
    seen = long_way_of(cluster, leader, monkeypatch)
    batch = encode([b"second"], {}).blob
    answer = cluster.ask(leader, Send("q", b"p" * 16, 99, 0, None, False, batch, False, 2))
    assert isinstance(answer, Failed)
    assert answer.code == "no-partition"
    assert len(seen) == 1


def test_what_serves_a_partition_is_not_for_clients() -> None:
    cluster, leader, _ = fresh()
    node = cluster.nodes[leader]
    (shard,) = [s for s in node.clustering.hosted.shards.values() if s.key in node.broker.registry.queues]
    batch = encode([b"second"], {}).blob
    answer = cluster.ask(leader, Send(shard.key, b"p" * 16, 99, 0, None, False, batch))
    assert isinstance(answer, Failed)
    assert answer.code == "invalid"


def test_it_is_sent_again_when_the_lease_is_lost_under_way() -> None:
    cluster, leader, other = fresh()
    node = cluster.nodes[leader]
    for lost in [n for n in cluster.nodes if n != leader]:
        node.clustering.gone(cluster.now(), cluster.nodes[lost].me)  # what it ships reaches nobody
        cluster.nodes[lost].clustering.gone(cluster.now(), node.me)
    number = node.request(Send("q", b"p" * 16, 99, 0, None, False, encode([b"second"], {}).blob))
    cluster.until(lambda: not any(map(node.clustering.cluster.leads, node.clustering.hosted.shards)), 5.0)
    assert number not in node.replies
    cluster.link(leader, *cluster.nodes)
    for there in cluster.nodes:
        if there != leader:
            cluster.link(there, leader)
    cluster.until(lambda: number in node.replies, 10.0)
    assert isinstance(node.replies[number], Stored)
    assert [m.body for m in cluster.receive(other)] == [b"first", b"second"]
