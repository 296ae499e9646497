"""What is owed of a queue that is deleted is forgotten, and everything about it."""

from __future__ import annotations

from dmqnode.ids import LogId, partition_id
from dmqnode.messages import DeleteQueue, Done
from tests.dmqnode.several import Several

LOG = LogId(b"L" * 20)


def test_nothing_stays_of_what_is_owed_of_a_deleted_queue() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    node = cluster.nodes["n1"]
    debts, partition = node.clustering.debts, partition_id(node.broker.registry.queues["q"].definition.id, 0)
    debts._owe(partition, LOG, 0, 1)
    debts._logs[partition, False] = (LOG, 1)
    debts._offered[partition] = cluster.time + 0.1
    debts._under_offer[partition] = [(LOG, 0)]
    debts._offered_to[partition] = node.me
    assert isinstance(cluster.ask("n2", DeleteQueue("q")), Done)
    cluster.run(3.0)
    assert debts.count == 0
    assert not (debts._owed)
    assert not (debts._logs)
    assert not (debts._offered)
    assert not (debts._under_offer)
    assert not debts._offered_to
