"""What a node of a cluster makes of its clients' requests."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.errors import InvalidRequest, Unavailable
from dmqnode.ids import NodeId
from dmqnode.messages import GetQueue, Hello, Message, PurgeQueue, Receive, Redrive, Send, SetQueue
from dmqnode.records import Identity
from dmqnode.roster import Member, Roster

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
    broker = Broker(NodeConfig(data=Path("/nowhere")), Identity(ME, 1, 1), NOW)
    others = [Member(NodeId(b"node000%d" % n), f"n{n}", f"h{n}:1") for n in (2, 3)]
    roster = Roster(1, (Member(ME, "n1", "h1:1"), *others))
    clustering = broker.clustering = Clustering(broker, roster, random.Random(1), NOW, silent=0.0)
    session = broker.sessions[broker.open_session(Hello(1, 1, "someone", "", [], 1 << 24))]
    with pytest.raises(Unavailable, match="cannot ask a majority of the members"):
        clustering.requests.request(NOW, session, 1, request_)
