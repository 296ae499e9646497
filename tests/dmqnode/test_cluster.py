"""What one node makes of what the others say, where no longer story is told elsewhere."""

from __future__ import annotations

import pytest

from dmqnode.ids import partition_id
from dmqnode.messages import Failed
from dmqnode.peer_messages import Claim
from tests.dmqnode.several import Several, id_of


def test_who_claims_does_not_lead_whatever_was_heard() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.run(3.0)
    home = cluster.nodes["n1"]
    (queue,) = {q.definition.id: q for q in home.broker.registry.every()}.values()
    partition, core = partition_id(queue.definition.id, 0), home.clustering.cluster
    promise = core.grants.find(partition)
    assert promise is not None
    core.leaders[partition] = id_of("n2")
    for sender, told in (("n3", id_of("n2")), ("n2", None)):
        core.receive(cluster.now(), id_of(sender), Claim(partition, 0, 0, promise.record.fields()))
        assert core.leaders.get(partition) == told


@pytest.mark.parametrize("short", ["front end", "other"])
def test_nobody_stands_in_whose_disk_is_full(short: str) -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.stored("n1", b"a")
    cluster.run(3.0)
    queue = cluster.nodes["n1"].broker.registry.queues["q"]
    cluster.kill(cluster.leader(partition_id(queue.definition.id, 0)).name)
    front, other = (node for node in cluster.nodes.values() if node.up)
    full = front if short == "front end" else other
    for node in (front, other):
        node.clustering.cluster.may_claim = lambda *_: False  # nobody comes to lead
    full.broker.surroundings.free_disk = 1 << 20
    answer = cluster.send(front.name, b"b")
    assert isinstance(answer, Failed)
    assert answer.stored == ("no" if short == "front end" else "unknown")
    assert not full.clustering.debts.count


def test_another_is_asked_to_keep_what_one_has_no_room_for() -> None:
    cluster = Several("n1", "n2", "n3", "n4", "n5")
    cluster.create()
    cluster.stored("n1", b"a")
    cluster.run(3.0)
    queue = cluster.nodes["n1"].broker.registry.queues["q"]
    partition = partition_id(queue.definition.id, 0)
    first, second, third = cluster.leader(partition).clustering.wanted(partition)
    for node in list(cluster.nodes.values()):
        if node.me in (first, second):
            cluster.kill(node.name)
        elif node.me == third:
            node.broker.surroundings.free_disk = 1 << 20
    front = next(n for n in cluster.nodes.values() if n.up and n.me != third)
    cluster.stored(front.name, b"b")
    owing = {n.me: n.clustering.debts.count for n in cluster.nodes.values() if n.up}
    assert owing.pop(third) == 0
    assert set(owing.values()) == {1}
