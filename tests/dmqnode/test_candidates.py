"""Who may come to lead, and how soon who is asked to does."""

from __future__ import annotations

from dmqnode.candidates import SETTLED
from dmqnode.ids import PartitionId, partition_id
from dmqnode.messages import Goodbye, Receive
from tests.dmqnode.several import Several, Some, id_of


def led_where_it_belongs() -> tuple[Several, PartitionId, Some, list[Some]]:
    """Return a cluster with a queue, its partition, its leader and first home, and its other homes."""
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"first")
    definition = cluster.nodes["n1"].broker.registry.queues["q"].definition
    partition = partition_id(definition.id, 0)
    first, *others = cluster.nodes["n1"].clustering.wanted(partition)
    by_id = {node.me: node for node in cluster.nodes.values()}
    cluster.until(lambda: by_id[first].clustering.cluster.leads(partition))
    cluster.run(SETTLED)
    return cluster, partition, by_id[first], [by_id[node] for node in others]


def test_a_node_that_stops_is_not_handed_back_what_it_leads() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    leader.clustering.stop(cluster.now())
    leader.crank()
    cluster.until(lambda: any(n.clustering.cluster.leads(partition) for n in others), 1.0)
    successor = cluster.leader(partition)
    for _ in range(40):  # until it ends it goes on to answer, and is the first home
        cluster.run(0.05)
        assert cluster.leader(partition) is successor
        assert not leader.clustering.cluster.leads_all()
    for node in others:
        assert not node.clustering.cluster.may_lead(leader.me)
        cluster.link(node.name, leader.name)  # as it is back
    cluster.run(SETTLED + 1.0)
    assert all(node.clustering.cluster.may_lead(leader.me) for node in others)


def test_a_node_that_stops_claims_nothing() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    (stopping, _) = others
    stopping.clustering.stop(cluster.now())
    stopping.crank()
    leader.clustering.cluster.abandon(cluster.now(), partition)
    leader.crank()
    cluster.run(0.2)
    promise = stopping.clustering.cluster.grants.find(partition)
    assert promise is not None
    stopping.clustering.cluster.want(cluster.now(), partition, promise.record)
    stopping.crank()
    cluster.run(0.2)
    assert not stopping.clustering.cluster.leads(partition)


def test_who_is_met_while_this_node_stops_is_told() -> None:
    cluster, _, leader, others = led_where_it_belongs()
    leader.clustering.stop(cluster.now())
    leader.crank()
    cluster.run(0.1)
    others[0].clustering.met(cluster.now(), leader.me)
    leader.clustering.met(cluster.now(), others[0].me)
    leader.crank()
    cluster.run(SETTLED + 1.0)
    assert not others[0].clustering.cluster.may_lead(leader.me)


def test_word_of_a_node_that_is_gone_is_not_kept() -> None:
    cluster, _, leader, others = led_where_it_belongs()
    others[0].clustering.gone(cluster.now(), leader.me)
    others[0].clustering.hear(cluster.now(), leader.me, Goodbye("stopping", ""))
    assert not others[0].clustering.candidates._parting
    others[0].clustering.met(cluster.now(), leader.me)
    cluster.run(SETTLED + 1.0)
    assert others[0].clustering.cluster.may_lead(id_of(leader.name))


def test_who_is_handed_a_lease_claims_it_at_once_though_a_claim_was_denied_a_moment_ago() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    successor = others[0]
    record = leader.clustering.cluster.leases.counted(partition)
    assert record is not None
    successor.clustering.cluster.want(cluster.now(), partition, record)
    successor.crank()
    cluster.run(0.02)
    assert leader.clustering.cluster.leads(partition), "the claim was denied"
    leader.clustering.cluster.hand_over(cluster.now(), partition, successor.me)
    leader.crank()
    cluster.run(0.05)
    assert successor.clustering.cluster.leads(partition)


def soon_led_by(cluster: Several, partition: PartitionId, nodes: list[Some]) -> bool:
    """Let the nodes be asked for a partition; tell whether one of them leads it after 0.3 seconds."""
    for node in nodes:
        node.request(Receive("q", 1, 1 << 20, 5.0, None))
    cluster.run(0.3)
    return any(node.clustering.cluster.leads(partition) for node in nodes)


def test_who_leads_nothing_says_that_it_stops_too() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    for stopping in others:
        for led in stopping.clustering.cluster.leads_all():
            stopping.clustering.cluster.hand_over(cluster.now(), led, leader.me)
            stopping.crank()
    cluster.run(0.1)
    assert not others[0].clustering.stop(cluster.now()), "nothing is left to be handed over"
    others[0].crank()
    cluster.run(0.1)
    assert not leader.clustering.cluster.may_lead(others[0].me)
    assert leader.clustering.cluster.successor(partition) == others[1].me


def test_who_stops_while_it_is_being_handed_a_lease_does_not_get_it() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    leader.clustering.cluster.hand_over(cluster.now(), partition, others[0].me)
    others[0].clustering.stop(cluster.now())
    others[0].crank()
    leader.crank()
    assert soon_led_by(cluster, partition, [leader, others[1]])


def test_who_makes_way_for_itself_and_stops_makes_way_for_another() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    leader.clustering.cluster.hand_over(cluster.now(), partition, leader.me)  # for a higher number
    leader.clustering.stop(cluster.now())
    leader.crank()
    assert soon_led_by(cluster, partition, others)


def test_a_lease_that_nothing_is_served_of_yet_is_handed_over_or_let_go() -> None:
    cluster, partition, leader, others = led_where_it_belongs()
    leader.clustering.cluster.abandon(cluster.now(), partition)
    leader.crank()
    cluster.run(0.01)
    stopping = others[0]
    for led in stopping.clustering.cluster.leads_all():
        stopping.clustering.cluster.hand_over(cluster.now(), led, leader.me)
        stopping.crank()
    cluster.run(0.1)
    promise = stopping.clustering.cluster.grants.find(partition)
    assert promise is not None
    stopping.clustering.cluster.want(cluster.now(), partition, promise.record)
    stopping.crank()
    assert stopping.clustering.stop(cluster.now()), "it waits for what it claims"
    for claimed in stopping.clustering.cluster.leases.all():
        stopping.clustering.cluster.abandon(cluster.now(), claimed)
    stopping.crank()
    cluster.run(0.01)
    cluster.kill(stopping.name)
    assert soon_led_by(cluster, partition, [leader, others[1]])
