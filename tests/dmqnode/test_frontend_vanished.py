"""Of clients that are gone nothing stays: neither what they waited for nor what nobody led then."""

from __future__ import annotations

import pytest

from dmqnode.homesets import HomeSet
from dmqnode.messages import Failed, GetQueue, Message, Receive
from dmqnode.roster import ROSTER
from tests.dmqnode.several import Several


def left(cluster: Several) -> list[tuple[str, int, int, int]]:
    """Return how much each node has under way for clients."""
    return [
        (
            n.name,
            len(n.clustering.front._asks),
            len(n.clustering.fanout.polls._under_way),
            n.broker.deliveries.waiting,
        )
        for n in cluster.nodes.values()
        if n.up
    ]


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_receive_ends_with_its_client(partitions: int) -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create(partitions=partitions)
    for name in cluster.nodes:  # one of them leads, so that all ways are gone
        cluster.receive(name, wait=0.0)
        for _ in range(3):
            cluster.nodes[name].request(Receive("q", 10, 1 << 20, 3600.0, None))
    cluster.run(1.0)
    assert sum(asks for _, asks, _, _ in left(cluster)) >= 9
    for node in cluster.nodes.values():
        node.broker.close_session(node.session)
        node.crank()
    cluster.run(1.0)
    assert left(cluster) == [("n1", 0, 0, 0), ("n2", 0, 0, 0), ("n3", 0, 0, 0)]
    assert not any(n.clustering.front._by_client for n in cluster.nodes.values())


def test_what_is_to_be_asked_when_its_client_is_gone_already_ends_too() -> None:
    cluster = Several("n1", "n2", "n3")
    cluster.create()
    cluster.receive("n1", wait=0.0)
    (partition,) = {s.partition for n in cluster.nodes.values() for s in n.clustering.cluster.streams} - {
        ROSTER
    }
    leader = cluster.leader(partition)
    leader.broker.close_session(leader.session)
    front, answers = leader.clustering.front, list[Message]()
    homes, ask = HomeSet.first((leader.me,)), GetQueue("q#0")
    front.ask(
        cluster.now(), leader.session, 1, partition, homes, ask, lambda now, answer: answers.append(answer)
    )
    cluster.run(0.1)
    assert [type(a) for a in answers] == [Failed]
    assert not front._asks
