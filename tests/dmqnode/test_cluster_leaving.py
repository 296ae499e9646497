"""A node that is about to leave gets rid of all that it has, whatever the others do meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dmqnode.copies import Copies
from dmqnode.grants import Grants
from dmqnode.ids import NodeId, PartitionId, partition_id
from dmqnode.lease_effects import Persist
from dmqnode.messages import Receive
from dmqnode.peer_messages import Committed
from dmqnode.roster import Member, Roster
from tests.dmqnode.several import Several, Some


def a_queue(cluster: Several) -> PartitionId:
    """Create a queue with one partition that holds two messages, and have it led."""
    cluster.create()
    cluster.stored("n1", b"a", b"b")
    cluster.run(3.0)
    (queue,) = {q.definition.id: q for q in cluster.nodes["n1"].broker.registry.every()}.values()
    return partition_id(queue.definition.id, 0)


def retire(cluster: Several, leaver: Some) -> None:
    """Nothing is to be placed on a node any more, as all hear at once."""
    old = leaver.clustering.rosters.current
    learn(cluster, [m._replace(weight=0.0) if m.node == leaver.me else m for m in old.members])


def learn(cluster: Several, members: Iterable[Member], destroyed: Iterable[NodeId] = ()) -> None:
    """Let all nodes that are up hear of the next list of members."""
    up = [node for node in cluster.nodes.values() if node.up]
    old = max((node.clustering.rosters.current for node in up), key=lambda roster: roster.version)
    new = Roster(old.version + 1, tuple(members), old.first_homes, tuple(destroyed))
    for node in up:
        node.clustering.rosters.learn(cluster.now(), new)


def homes(node: Some, partition: PartitionId) -> tuple[NodeId, ...]:
    """Return the home set of a partition, as a node knows it."""
    promise = node.clustering.cluster.grants.find(partition)
    assert promise is not None
    return promise.record.members


def others(leader: Some, partition: PartitionId) -> list[NodeId]:
    return [node for node in homes(leader, partition) if node != leader.me]


def test_what_is_led_goes_to_another_home_if_the_preferred_may_not_lead() -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    partition = a_queue(cluster)
    leaver = cluster.leader(partition)
    retire(cluster, leaver)
    preferred = leaver.clustering.wanted(partition)[0]
    may_lead = leaver.clustering.cluster.may_lead
    leaver.clustering.cluster.may_lead = lambda node: node != preferred and may_lead(node)
    cluster.until(lambda: not leaver.clustering.overview.homes_here(cluster.now()), 20.0)
    assert cluster.leader(partition).me in leaver.clustering.wanted(partition)


def test_what_is_led_goes_to_a_home_though_another_is_wanted_that_does_not_answer() -> None:
    cluster = Several("n1", "n2", "n3", "n4", "n5")
    partition = a_queue(cluster)
    leaver = cluster.leader(partition)
    cluster_of = leaver.clustering.cluster
    may_lead, cluster_of.may_lead = cluster_of.may_lead, lambda node: node == leaver.me
    retire(cluster, leaver)
    cluster.until(lambda: leaver.me not in homes(leaver, partition))
    placed = homes(leaver, partition)
    away = next(n for n in cluster.nodes.values() if n.me not in (*placed, leaver.me))
    cluster.kill(away.name)
    cluster_of._wanted = lambda partition: (away.me, *placed[1:])
    cluster_of.may_lead = may_lead
    cluster.until(lambda: not leaver.clustering.overview.homes_here(cluster.now()), 20.0)
    assert cluster.leader(partition).me in placed


def test_nobody_leaves_while_one_home_alone_knows_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    partition = a_queue(cluster)
    leader = cluster.leader(partition)
    leaver = next(node for node in cluster.nodes.values() if node.me in others(leader, partition))
    on_committed = Grants.on_committed

    def slow(grants: Grants, now: float, sender: NodeId, committed: Committed) -> Persist | None:
        quick = grants._me in (leader.me, leaver.me) or committed.partition != partition
        return on_committed(grants, now, sender, committed) if quick else None

    with monkeypatch.context() as patch:
        patch.setattr(Grants, "on_committed", slow)  # as disks and links may be
        retire(cluster, leaver)
        cluster.until(lambda: leaver.me not in homes(leaver, partition))
        cluster.run(30.0)
        assert leaver.clustering.overview.homes_here(cluster.now())
    cluster.until(lambda: not leaver.clustering.overview.homes_here(cluster.now()))


def test_a_copy_on_disk_counts_before_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    partition = a_queue(cluster)
    leader = cluster.leader(partition)
    leaver = next(node for node in cluster.nodes.values() if node.me in others(leader, partition))
    with monkeypatch.context() as patch:
        patch.setattr(Copies, "_dropped", lambda *_: None)  # as if the links broke before it heard so
        retire(cluster, leaver)
        cluster.until(lambda: leaver.me not in homes(leaver, partition))
        cluster.run(10.0)
        cluster.kill(leaver.name)
        leaver.restart()
    assert leaver.clustering.overview.homes_here(cluster.now())
    cluster.run(20.0)
    assert leaver.clustering.overview.homes_here(cluster.now()), "nobody has told it that it is not needed"
    for node in cluster.nodes.values():
        cluster.link(node.name, *cluster.nodes)
    cluster.until(lambda: not leaver.clustering.overview.homes_here(cluster.now()))


def test_a_copy_that_homes_formed_anew_do_not_know_is_taken_in_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Several("n1", "n2", "n3", "n4", "n5", "n6")
    partition = a_queue(cluster)
    leader = cluster.leader(partition)
    leaver = next(node for node in cluster.nodes.values() if node.me in others(leader, partition))
    with monkeypatch.context() as patch:
        patch.setattr(Copies, "_dropped", lambda *_: None)  # as if the links broke before they heard so
        retire(cluster, leaver)
        cluster.until(lambda: leaver.me not in homes(leader, partition))
        cluster.until(lambda: leaver.me not in homes(leaver, partition))
        placed = homes(leader, partition)
        for node in [n for n in cluster.nodes.values() if n.me in placed]:
            cluster.kill(node.name)
    left = [n for n in cluster.nodes.values() if n.me not in placed]
    members = [m for m in leader.clustering.rosters.current.members if m.node not in placed]
    learn(cluster, members, placed)
    name = next(n.name for n in left if n is not leaver)
    cluster.ask(name, Receive("q", 1, 1 << 20, 5.0, None))
    assert leaver.me not in homes(cluster.nodes[name], partition)
    cluster.until(lambda: not leaver.clustering.overview.homes_here(cluster.now()), 60.0)
    assert leaver.me not in homes(cluster.nodes[name], partition)
    assert sorted(m.body for m in cluster.receive(name)) == [b"a", b"b"], "there is an intact copy (P2)"
