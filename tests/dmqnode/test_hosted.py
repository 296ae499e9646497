"""What a node leads: opened, served, and closed again with nobody left in the dark."""

from __future__ import annotations

from dmqnode.batch import encode
from dmqnode.ids import PartitionId, partition_id
from dmqnode.messages import (
    Ack,
    DeleteQueue,
    Delivered,
    Done,
    Failed,
    PurgeQueue,
    Receive,
    Send,
    SetQueue,
    Settled,
    Stored,
)
from tests.dmqnode.several import Several, Some
from tests.dmqnode.world import got


def led(**settings: object) -> tuple[Several, PartitionId, Some]:
    """Return a cluster with a queue of one partition, and who leads it."""
    cluster = Several("n1", "n2", "n3")
    cluster.create(**settings)
    cluster.stored("n1", b"first")
    cluster.run(3.0)
    definition = cluster.nodes["n1"].broker.registry.queues["q"].definition
    partition = partition_id(definition.id, 0)
    return cluster, partition, cluster.leader(partition)


def other_than(cluster: Several, node: Some) -> Some:
    return next(n for n in cluster.nodes.values() if n is not node and n.up)


def test_what_is_led_is_a_shard_of_its_own_and_no_queue_of_clients() -> None:
    cluster, partition, leader = led()
    hosted = leader.clustering.hosted
    assert hosted.serves(partition)
    shard = hosted.shard(partition)
    assert leader.broker.registry.queues[shard.key] is shard
    assert [p.id for p in shard.partitions] == [partition]
    follower = other_than(cluster, leader).clustering.hosted
    assert not follower.serves(partition)
    assert partition not in follower.shards


def test_when_the_lease_ends_nothing_of_it_stays_and_the_next_leader_has_everything() -> None:
    cluster, partition, leader = led()
    (message,) = cluster.receive(leader.name)
    cluster.run(0.5)  # the others hear of the delivery
    cluster.kill(leader.name)
    cluster.run(4.0)
    asked = other_than(cluster, leader)
    cluster.stored(asked.name, b"second")
    successor = cluster.leader(partition)
    assert successor is not leader
    assert [m.body for m in cluster.receive(asked.name)] == [b"second"], (
        "the first is with its consumer still"
    )
    assert cluster.ask(asked.name, Ack([message.held])) == Settled([])  # type: ignore[list-item]


def test_a_leader_without_its_homes_gives_up_and_answers_nothing_that_it_cannot_keep() -> None:
    cluster, partition, leader = led()
    others = [n for n in cluster.nodes.values() if n is not leader]
    waiting = leader.request(Receive("q", 1, 1 << 20, 15.0, None))
    cluster.run(0.1)
    assert waiting in leader.replies, "the first message"
    again = leader.request(Receive("q", 1, 1 << 20, 15.0, None))
    for node in others:
        cluster.kill(node.name)
    send = leader.request(Send("q", b"w" * 16, 99, 0, None, False, encode([b"x"]).blob))
    cluster.run(9.0)
    assert not leader.clustering.cluster.leads(partition)
    assert partition not in leader.clustering.hosted.shards
    assert not [n for n in leader.broker.registry.queues if "#" in n]
    cluster.run(10.0)
    assert isinstance(leader.replies[again], Failed | Delivered)
    answer = leader.replies[send]
    assert isinstance(answer, Failed)
    assert answer.stored == "unknown", "its own disk has it"


def test_a_hand_over_sends_away_who_waits_and_repeats_nothing() -> None:
    cluster, partition, leader = led()
    (held,) = cluster.receive(leader.name)
    asked = other_than(cluster, leader)
    waiting = asked.request(Receive("q", 1, 1 << 20, 15.0, None))
    cluster.run(0.2)
    successor = other_than(cluster, leader)
    leader.clustering.cluster.hand_over(cluster.now(), partition, successor.me)
    leader.crank()
    cluster.until(lambda: successor.clustering.hosted.serves(partition), 5.0)
    cluster.stored(asked.name, b"second")
    cluster.until(lambda: waiting in asked.replies, 5.0)
    answer = asked.replies.pop(waiting)
    assert isinstance(answer, Delivered)
    assert [m.body for m in got(answer)] == [b"second"]
    assert cluster.ask(asked.name, Ack([held.held])) == Settled([])  # type: ignore[list-item]


def test_a_deleted_queue_is_given_up() -> None:
    cluster, partition, leader = led()
    waiting = leader.request(Receive("q", 5, 1 << 20, 15.0, None))
    leader.replies.pop(waiting, None)
    again = leader.request(Receive("q", 5, 1 << 20, 15.0, None))
    assert isinstance(cluster.ask("n2", DeleteQueue("q")), Done)
    cluster.run(1.0)
    answer = leader.replies[again]
    assert isinstance(answer, Failed)
    assert answer.code == "queue-not-found"
    assert all(partition not in n.clustering.hosted.shards for n in cluster.nodes.values())


def test_only_in_a_fifo_queue_nobody_but_the_leader_takes_messages_in() -> None:
    for ordering, sealed in (("fifo", True), ("standard", False)):
        _, partition, leader = led(ordering=ordering)
        assert leader.clustering.hosted.sealed(partition) is sealed


def test_settings_reach_what_is_led() -> None:
    cluster, partition, leader = led()
    cluster.ask(other_than(cluster, leader).name, SetQueue("q", {"visibility": 7.0}))
    cluster.run(0.5)
    assert leader.clustering.hosted.shard(partition).definition.settings.visibility == 7.0


def test_a_repeated_send_is_answered_as_the_first_was_by_whoever_leads() -> None:
    cluster, _, leader = led()
    request = Send("q", b"w" * 16, 5, 5, None, False, encode([b"once"]).blob)
    first = cluster.ask(leader.name, request)
    cluster.run(0.5)
    cluster.kill(leader.name)
    cluster.run(4.0)
    again = cluster.ask(other_than(cluster, leader).name, request)
    assert isinstance(again, Stored)
    assert (again.runs, again.duplicates) == (first.runs, 1)


def test_a_purge_kills_what_a_home_that_was_away_accepted_before() -> None:
    cluster, partition, leader = led()
    others = [node for node in cluster.nodes.values() if node is not leader]
    for node in others:
        leader.clustering.gone(cluster.now(), node.me)
        node.clustering.gone(cluster.now(), leader.me)
    leader.request(Send("q", b"w" * 16, 99, 0, None, False, encode([b"on one disk"]).blob))
    cluster.run(5.0)
    asked = others[0].name
    assert isinstance(cluster.ask(asked, PurgeQueue("q")), Done)
    cluster.stored(asked, b"behind")
    assert cluster.leader(partition) is not leader
    cluster.link(leader.name, *cluster.nodes)
    for node in others:
        cluster.link(node.name, leader.name)
    cluster.run(5.0)
    assert [m.body for m in cluster.receive(asked)] == [b"behind"]
    assert not cluster.receive(asked)


def test_a_node_that_stops_delivers_nothing_and_takes_acks() -> None:
    cluster, partition, leader = led()
    cluster.stored(leader.name, b"second")
    (held,) = cluster.receive(leader.name, limit=1)
    leader.clustering.cluster.may_lead = lambda node: False
    leader.clustering.stop(cluster.now())
    leader.crank()
    assert leader.clustering.cluster.leads(partition), "nobody can take it"
    assert not cluster.receive(leader.name, wait=0.0)
    assert cluster.ask(leader.name, Ack([held.held])) == Settled([])  # type: ignore[list-item]
