"""Real nodes of different weights: what each takes, and what moves when one weighs another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from dmqnode.blocking import connect_sync
from tests.clusters import overview, until_healthy
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow
Start = Callable[..., NodeProcess]


def test_a_node_takes_as_much_as_it_weighs_and_says_so_when_it_starts_with_another_weight(
    start_node: Start,
) -> None:
    def start(name: str, weight: float, *join: str) -> NodeProcess:
        return start_node(name=name, weight=weight, join=join, replicas=1, write_quorum=1)

    def shares() -> Counter[str]:
        with connect_sync(nodes[2].address) as client:
            parts = [part for queue in queues for part in client.explain(queue)["partitions"]]
            return Counter(home for part in parts for home in part["homes"])

    def weights() -> dict[str, float]:
        with connect_sync(nodes[2].address) as client:
            return {m["name"]: m["weight"] for m in client.members()["members"]}

    first = start("n1", 2.0)
    nodes = [first, start("n2", 1.0, first.address), start("n3", 1.0, first.address)]
    until_healthy(nodes[2], members=3)
    assert weights() == {"n1": 2.0, "n2": 1.0, "n3": 1.0}
    queues = [f"q{n}" for n in range(4)]
    with connect_sync(first.address) as client:
        for queue in queues:
            client.create_queue(queue, partitions=64)
    # Half of 256 partitions, and five times the standard deviation.
    assert 88 <= shares()["n1"] <= 168
    assert nodes[1].stop() == 0
    nodes[1].restart(weight=4.0)
    deadline = time.monotonic() + 60
    while weights()["n2"] != 4.0 or overview(nodes[2])["moving"] or not 107 <= shares()["n2"] <= 186:
        assert time.monotonic() < deadline, (weights(), shares())
        time.sleep(0.05)
    until_healthy(nodes[2], members=3)
