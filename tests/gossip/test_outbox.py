"""Packets are sealed, filled with news, and counted."""

from __future__ import annotations

import random

from gossip import codec
from gossip.codec import Kind
from gossip.config import SwimConfig
from gossip.effects import PushPull, SendPacket
from gossip.members import Members
from gossip.messages import NO_CLUSTER, Ack, Alive, ClusterId
from gossip.outbox import Outbox
from gossip.rumours import Rumours
from tests.gossip.lone import member
from tests.gossip.world import CLUSTER, node_id


def outbox(rumours: Rumours, cluster: ClusterId = CLUSTER) -> Outbox:
    members = Members(10, random.Random(1))
    me = node_id("me")
    return Outbox(SwimConfig.lan(), members, rumours, node=me, run=b"runs", key=b"key", cluster=cluster)


def test_a_packet_takes_as_much_news_along_as_fits() -> None:
    rumours = Rumours()
    for number in range(100):
        rumours.put(Alive(member(f"n{number}")))
    box = outbox(rumours)
    box.send("there:1", Ack(7, node_id("me")))
    box.push_pull("there:1")
    packet, exchange = box.take()
    assert exchange == PushPull("there:1")
    assert box.take() == []
    assert isinstance(packet, SendPacket)
    assert 1300 < len(packet.data) <= SwimConfig.lan().packet_limit
    envelope = codec.unseal(packet.data, b"key")
    assert (envelope.kind, envelope.cluster, envelope.sender) == (Kind.PACKET, CLUSTER, node_id("me"))
    first, *news = codec.decode(envelope.body)
    assert first == Ack(7, node_id("me"))
    assert len(news) > 10
    assert (box.counters.sent_packets, box.counters.sent_bytes) == (1, len(packet.data))


def test_a_node_without_a_cluster_sends_no_packets() -> None:
    box = outbox(Rumours(), NO_CLUSTER)
    box.send("there:1", Ack(7, node_id("me")))
    assert box.take() == []
