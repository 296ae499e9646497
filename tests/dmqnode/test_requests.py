"""What a node of a cluster makes of its clients' requests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from dmqnode.batch import encode
from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.errors import InvalidRequest, Unavailable
from dmqnode.ids import LogId, NodeId, PartitionId
from dmqnode.messages import (
    Ack,
    DeleteQueue,
    Delivered,
    Done,
    GetQueue,
    Hello,
    Message,
    PurgeQueue,
    QueueInfo,
    Receive,
    Redrive,
    Send,
    SetQueue,
    Settled,
    Stored,
)
from dmqnode.records import Identity
from dmqnode.roster import Member, Roster
from tests.dmqnode.several import Several, id_of

NOW = Now(10.0, 1_700_000_000_000)
ME = NodeId(b"node0001")


@pytest.mark.parametrize(
    "request_",
    [PurgeQueue("orders#0"), SetQueue("orders#0", {}), Redrive("orders-dead", "orders#0", 10)],
    ids=lambda request: type(request).__name__,
)
def test_what_serves_a_partition_is_not_for_clients(request_: Message) -> None:
    broker = Broker(NodeConfig(data=Path("/nowhere")), Identity(ME, 1, 1), NOW)
    roster = Roster(1, (Member(ME, "n1", "h1:1"),))
    clustering = broker.clustering = Clustering(broker, roster, random.Random(1), NOW, silent=0.0)
    session = broker.sessions[broker.open_session(Hello(1, 1, "someone", "", [], 1 << 24))]
    with pytest.raises(InvalidRequest, match="'orders#0' is not possible"):
        clustering.requests.request(NOW, session, 1, request_)


@pytest.mark.parametrize(
    "request_",
    [Send("orders", b"p", 1, 1, None, False, b""), Receive("orders", 1, 1000, 0.0, None), GetQueue("orders")],
    ids=lambda request: type(request).__name__,
)
def test_a_node_that_can_ask_nobody_does_not_say_that_a_queue_does_not_exist(request_: Message) -> None:
    broker, session = alone_of_three()
    with pytest.raises(Unavailable, match="cannot ask a majority of the members"):
        broker.clustering.requests.request(NOW, session, 1, request_)


def test_nor_that_the_queue_of_a_receipt_is_gone() -> None:
    broker, session = alone_of_three()
    held = [(PartitionId(b"P" * 10), 7, LogId(b"L" * 20), 0, 1)]
    assert broker.clustering.requests.request(NOW, session, 1, Ack(held))
    (reply,) = broker.clustering.requests.own_replies(broker.more_replies())
    assert isinstance(reply.message, Settled)
    assert [(at, code) for at, code, _ in reply.message.failed] == [(0, "unavailable")]


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (GetQueue("orders"), QueueInfo),
        (SetQueue("orders", {"visibility": 5.0}), QueueInfo),
        (Send("orders", b"p" * 16, 1, 0, None, False, encode([b"a"], {}).blob), Stored),
        (Receive("orders", 1, 1 << 20, 0.0, None), Delivered),
        (PurgeQueue("orders"), Done),
        (DeleteQueue("orders"), Done),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_created_through_one_node_is_there_at_once_through_any(
    request_: Message, answer: type[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also through the one that was not told: two of three knew when it was said to be created."""
    cluster = Several("n1", "n2", "n3")
    cluster.run(3.0)
    with monkeypatch.context() as patch:
        carry = cluster.carry
        patch.setattr(
            cluster, "carry", lambda sender, to, message: to == id_of("n3") or carry(sender, to, message)
        )
        cluster.create("orders")
    assert "orders" not in cluster.nodes["n3"].broker.registry.queues
    assert isinstance(cluster.ask("n3", request_), answer)


def alone_of_three() -> tuple[Any, Any]:
    """Return a node that has no link yet to the two others of its cluster, and a session of a client."""
    broker = Broker(NodeConfig(data=Path("/nowhere")), Identity(ME, 1, 1), NOW)
    others = [Member(NodeId(b"node000%d" % n), f"n{n}", f"h{n}:1") for n in (2, 3)]
    roster = Roster(1, (Member(ME, "n1", "h1:1"), *others))
    broker.clustering = Clustering(broker, roster, random.Random(1), NOW, silent=0.0)
    return broker, broker.sessions[broker.open_session(Hello(1, 1, "someone", "", [], 1 << 24))]
