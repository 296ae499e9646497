"""Names and numbers of logs and deliveries are given once."""

from __future__ import annotations

from dmqnode.ids import NodeId
from dmqnode.numbering import Numbering
from dmqnode.records import Identity


def test_no_two_nodes_and_no_two_runs_give_one_number() -> None:
    nodes = [NodeId(b"node%04d" % n) for n in range(5)]
    runs = [Numbering(Identity(node, boot, 7)) for node in nodes for boot in (1, 2, 3)]
    deliveries = [run.new_delivery() for run in runs for _ in range(300)]
    assert len(set(deliveries)) == len(deliveries)
    assert all(0 < number < 1 << 63 for number in deliveries)
    logs = [run.new_log() for run in runs for _ in range(3)]
    assert len(set(logs)) == len(logs)
