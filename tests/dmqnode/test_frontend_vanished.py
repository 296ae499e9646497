"""Of clients that are gone nothing stays: neither what they waited for nor what nobody led then."""

from __future__ import annotations

import pytest

from dmqnode.batch import encode
from dmqnode.homesets import HomeSet
from dmqnode.ids import PartitionId
from dmqnode.messages import Delivered, Done, Failed, GetQueue, Message, Receive, Send
from dmqnode.peer_messages import Answer
from dmqnode.roster import ROSTER
from dmqnode.wire import decode
from tests.dmqnode.several import Several, Some


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


# --- what is on its way when the client goes ---------------------------------------------------------------


def under_way(cluster: Several, node: Some, kind: type[Message]) -> bool:
    """Tell whether such an answer, other than of nothing, is on its way to a node."""
    answers = [m for _, _, _, to, m in cluster._under_way if to == node.name and isinstance(m, Answer)]
    found = [decode(m.answer)[1] for m in answers]
    return any(type(a) is kind and (not isinstance(a, Delivered) or a.parts) for a in found)


def waiting_far_away(cluster: Several, partitions: int) -> Some:
    """Have somebody wait for a queue at a node that leads none of its partitions; return that node."""
    cluster.create(partitions=partitions, max_attempts=1, dead_letter="dead")
    cluster.receive("n1", wait=0.0)
    led = [s.partition for n in cluster.nodes.values() for s in n.clustering.cluster.streams]
    for partition in {PartitionId(p) for p in led} - {ROSTER}:
        leader = cluster.leader(partition)
        if leader.name == "n4":
            leader.clustering.cluster.hand_over(cluster.now(), partition, cluster.nodes["n1"].me)
    node = cluster.nodes["n4"]
    node.request(Receive("q", 10, 1 << 20, 3600.0, None))
    cluster.run(0.5)
    return node


def leave(node: Some) -> None:
    node.broker.close_session(node.session)
    node.crank()


@pytest.mark.parametrize(("partitions", "kind"), [(1, Delivered), (3, Done), (3, Delivered)])
def test_what_is_delivered_to_nobody_is_ready_again_and_no_attempt_counted(
    partitions: int, kind: type[Message]
) -> None:
    cluster = Several("n1", "n2", "n3", "n4")
    node = waiting_far_away(cluster, partitions)
    batch = encode([b"x"], {}).blob
    cluster.nodes["n1"].request(Send("q", b"p" * 16, 1, 0, None, False, batch))
    for _ in range(1000):
        if under_way(cluster, node, kind):
            break
        cluster.run(0.0001)
    else:
        raise AssertionError("it never was on its way")
    leave(node)
    cluster.run(0.1)
    assert left(cluster) == [(name, 0, 0, 0) for name in cluster.nodes]
    for other in ("n2", "n3"):
        found = cluster.receive(other, wait=0.0)
        assert [(m.body, m.attempt) for m in found] == ([(b"x", 1)] if other == "n2" else [])
