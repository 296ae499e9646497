"""What a node of a cluster makes of its clients' requests."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dmqnode.broker import Broker
from dmqnode.clock import Now
from dmqnode.clustering import Clustering
from dmqnode.config import NodeConfig
from dmqnode.errors import InvalidRequest
from dmqnode.ids import NodeId
from dmqnode.messages import Hello, Message, PurgeQueue, Redrive, SetQueue
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
