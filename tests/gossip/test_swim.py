"""One whole node: packets at the door, news, farewells. (Claims: test_beliefs; probes: test_probing.)"""

from __future__ import annotations

import math

import pytest

from gossip import codec
from gossip.codec import Envelope, Kind
from gossip.errors import InvalidSetting
from gossip.messages import Alive, ClusterId, Dead, Left, Ping, Suspect
from tests.gossip.lone import ALIVE, DEAD, LEFT, Lone, member
from tests.gossip.world import CLUSTER, node_id


def test_packets_of_another_cluster_are_dropped_and_counted() -> None:
    me = Lone("n1")
    me.hears(Alive(member("n2")), Ping(1, node_id("me")), cluster=ClusterId(b"x" * 16))
    me.hears(Alive(member("n2")), cluster=ClusterId(b""))
    assert me.status("n2") is None
    assert me.packets == []
    assert me.swim.counters.foreign == 2


def test_a_node_without_a_cluster_takes_no_packets() -> None:
    me = Lone(cluster=ClusterId(b""), seeds=["n1:7367"])
    me.hears(Alive(member("n2")), cluster=ClusterId(b""))
    assert me.swim.counters.foreign == 1


def test_what_is_no_packet_is_dropped_and_counted() -> None:
    me = Lone("n1")
    good = codec.seal(Envelope(Kind.PACKET, CLUSTER, node_id("n1"), b"runs", b"\x00"), b"")
    state = codec.seal(Envelope(Kind.STATE, CLUSTER, node_id("n1"), b"runs", b""), b"")
    for data in (b"", b"rubbish", good, state):
        me.swim.receive(me.time, "n1:7367", data)
    me.swim.receive(me.time, "n1:7367", good[:-1] + b"\x01")
    keyed = codec.seal(Envelope(Kind.PACKET, CLUSTER, node_id("n1"), b"runs", b""), b"key")
    me.swim.receive(me.time, "n1:7367", keyed)
    assert (me.swim.counters.malformed, me.swim.counters.unauthentic) == (4, 2)


def test_news_leaves_soon_and_goes_to_several() -> None:
    me = Lone(*(f"n{i}" for i in range(1, 8)))
    me.hears(Alive(member("new")))
    me.passes(0.21)
    told = {to for to, messages in me.packets for m in messages if m == Alive(member("new"))}
    assert len(told) >= 3
    me.passes(5)
    sent = [m for _, messages in me.packets for m in messages if m == Alive(member("new"))]
    assert len(sent) == me.config.transmit_limit(9)


def test_with_nobody_there_nothing_is_sent_but_for_ever_tried() -> None:
    me = Lone("n1")
    me.hears(Dead(node_id("n1"), 1, node_id("n1")))
    me.passes(20)
    me.forget()
    me.passes(3600)
    assert me.packets == []
    assert 2000 < len(me.exchanges) < 5000
    assert set(me.exchanges) == {"n1:7367"}


def test_the_recently_dead_are_told_so_too() -> None:
    me = Lone("n1", "n2")
    me.hears(Dead(node_id("n1"), 1, node_id("n2")))
    me.passes(2)
    assert me.said(Dead, to="n1")


@pytest.mark.parametrize(("verb", "claim"), [("stop", Dead), ("leave", Left)])
def test_a_farewell_goes_to_all_and_is_the_last_word(verb: str, claim: type[Dead] | type[Left]) -> None:
    me = Lone("n1", "n2", "n3")
    me.does(verb)
    for name in ("n1", "n2", "n3"):
        assert me.said(claim, to=name) == [claim(node_id("me"), 1, node_id("me"))]
    assert me.swim.next_deadline() == math.inf
    me.forget()
    me.hears(Suspect(node_id("me"), 5, node_id("n1")), Ping(1, node_id("me")))
    me.does("stop")
    me.does("probe_now", node_id("n1"))
    me.does("tick")
    me.swim.merge(me.time, "n1:7367", b"")
    assert (me.packets, me.events) == ([], [])


def test_forgetting_is_passed_on_as_leaving() -> None:
    me = Lone("n1", "n2")
    me.hears(Dead(node_id("n1"), 1, node_id("n2")))
    assert me.status("n1") is DEAD
    me.does("forget", node_id("n1"))
    me.does("forget", node_id("unknown"))
    assert me.status("n1") is LEFT
    me.passes(1)
    assert me.said(Left, to="n2") == [Left(node_id("n1"), 1, node_id("me"))]
    assert me.status("n2") is ALIVE


@pytest.mark.parametrize("wrong", [{"cluster": ClusterId(b"short")}, {"key": b"k" * 65}])
def test_ids_and_keys_have_their_length(wrong: dict[str, bytes]) -> None:
    with pytest.raises(InvalidSetting):
        Lone(**wrong)
