"""A node finds who leads, also where none of the homes that it knows of is left."""

from __future__ import annotations

from dmqnode.ids import NodeId, PartitionId, QueueId, partition_id
from dmqnode.roster import Member, Roster
from tests.dmqnode.several import Several, id_of

PARTITIONS = 4


def partitions(cluster: Several) -> list[PartitionId]:
    queue = QueueId(bytes.fromhex(cluster.explain("n7")["id"]))
    return [partition_id(queue, index) for index in range(PARTITIONS)]


def tell(cluster: Several, *members: Member) -> None:
    """Give everybody a newer list of members."""
    old = cluster.nodes["n7"].clustering.rosters.current
    for node in [n for n in cluster.nodes.values() if n.up]:
        node.clustering.rosters.learn(cluster.now(), Roster(old.version + 1, members, old.first_homes))
        node.crank()


def leave(cluster: Several, name: str, homes: list[PartitionId]) -> None:
    """Have a node leave as it should: what it holds moves away first."""
    here = cluster.nodes["n7"].clustering.rosters.current.members
    tell(cluster, *(m if m.name != name else m._replace(weight=0) for m in here))

    def moved() -> bool:
        return all(id_of(name) not in homes_of(cluster, partition) for partition in homes)

    cluster.until(moved, 120.0)
    cluster.run(2.0)
    tell(cluster, *(m for m in here if m.name != name))
    cluster.kill(name)


def homes_of(cluster: Several, partition: PartitionId) -> tuple[NodeId, ...]:
    """Return the homes of a partition, as the best of all nodes knows them."""
    promises = [n.clustering.cluster.grants.find(partition) for n in cluster.nodes.values() if n.up]
    record = max((p.record for p in promises if p is not None), key=lambda record: record.age)
    return record.members


def test_all_homes_with_which_a_queue_began_have_left() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=PARTITIONS)
    for name in ("n4", "n5", "n6", "n7"):
        cluster.join(name)
    cluster.run(10.0)
    ids = partitions(cluster)
    for name in ("n1", "n2", "n3"):
        leave(cluster, name, ids)
    blind = [
        (name, index)
        for name in ("n4", "n5", "n6", "n7")
        for index, id_ in enumerate(ids)
        if cluster.nodes[name].clustering.cluster.grants.find(id_) is None
    ]
    assert blind, "every node was a home of everything"
    for name, index in blind:
        cluster.nodes[name].clustering.cluster.leaders.clear()
        found = cluster.explain(name)["partitions"][index]
        assert found["leader"] is not None, (name, index)
    assert all(cluster.overview(name)["healthy"] for name, _ in blind)
