"""Ping, ask others, exchange; and being asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossip.config import SwimConfig
from gossip.messages import Ack, Alive, Dead, Left, Nack, Ping, PingRequest, Suspect
from tests.gossip.lone import ALIVE, SUSPECT, Lone, member
from tests.gossip.world import address_of, node_id

OTHERS = ("n1", "n2", "n3", "n4", "n5")
RARE = replace(SwimConfig.lan(), probe_interval=0.5, gossip_interval=3600.0, push_pull_interval=3600.0)


def probing(name: str, *others: str) -> tuple[Lone, int]:
    """Return a node that has just pinged a member which is silent, and the ping's number."""
    me = Lone(*others, config=RARE)
    me.silent[name] = None
    me.does("probe_now", node_id(name))
    [ping] = me.said(Ping, to=name)
    return me, ping.number


def requested(me: Lone, number: int) -> list[str]:
    """Return whom it asked to ping for one of its probes."""
    return [to for to, ms in me.packets for m in ms if isinstance(m, PingRequest) and m.number == number]


def test_each_round_probes_every_member_once() -> None:
    me = Lone(*OTHERS, config=RARE)
    me.passes(0.5 * len(OTHERS))
    for _ in range(4):
        assert sorted(ping.target for ping in me.said(Ping)) == sorted(map(node_id, OTHERS))
        me.forget()
        me.passes(0.5 * len(OTHERS))
    assert me.swim.counters.probes_failed == 0


def test_an_ack_ends_it_and_shows_health() -> None:
    me, number = probing("n1", *OTHERS)
    me.hears(Ack(number, node_id("n1")))
    me.passes(0.6)
    assert requested(me, number) == []
    assert me.swim.awareness == 0


@pytest.mark.parametrize("ack", [Ack(1, node_id("n1")), None])
def test_an_ack_with_another_number_or_from_another_does_not_count(ack: Ack | None) -> None:
    me, number = probing("n1", *OTHERS)
    me.hears(ack or Ack(number, node_id("n2")))
    me.passes(0.25)
    assert requested(me, number) != []


def test_in_silence_others_are_asked_then_an_exchange_then_it_is_suspect() -> None:
    me, number = probing("n1", *OTHERS)
    me.passes(0.21)
    asked = requested(me, number)
    assert len(asked) == len(set(asked)) == 3
    assert address_of("n1") not in asked
    assert address_of("n1") not in me.exchanges
    me.passes(0.16)
    assert address_of("n1") in me.exchanges
    me.passes(0.2)
    assert me.status("n1") is SUSPECT


def test_an_ack_through_another_counts() -> None:
    me, number = probing("n1", *OTHERS)
    me.passes(0.3)
    me.hears(Ack(number, node_id("n1")), sender="n2")
    me.passes(0.3)
    assert me.status("n1") is ALIVE


def test_a_completed_exchange_counts() -> None:
    me, _ = probing("n1", *OTHERS)
    me.passes(0.4)
    me.hears_state(sender="n1")
    me.passes(0.2)
    assert me.status("n1") is ALIVE


@pytest.mark.parametrize(("nacks", "score"), [(0, 3), (1, 2), (3, 0)])
def test_missing_nacks_are_a_sign_of_ill_health(nacks: int, score: int) -> None:
    me, number = probing("n1", *OTHERS)
    me.passes(0.21)
    asked = requested(me, number)
    for address in asked[:nacks]:
        name = address.partition(":")[0]
        me.hears(Nack(number, node_id(name)), sender=name)
        me.hears(Nack(number, node_id(name)), sender=name)
    assert me.status("n1") is ALIVE
    me.silent.clear()
    for _ in range(400):
        if me.status("n1") is SUSPECT:
            break
        me.passes(0.001)
    assert me.swim.awareness == score


def test_an_ailing_node_gives_more_time() -> None:
    me = Lone(*OTHERS, config=RARE)
    me.hears(Suspect(node_id("me"), 1, node_id("n1")), Suspect(node_id("me"), 2, node_id("n1")))
    assert me.swim.awareness == 2
    me.silent["n1"] = None
    me.does("probe_now", node_id("n1"))
    me.passes(1.4)
    assert me.status("n1") is ALIVE
    me.passes(0.2)
    assert me.status("n1") is SUSPECT


def test_a_suspect_is_told_first_of_all() -> None:
    me = Lone(*OTHERS, config=RARE)
    me.hears(Suspect(node_id("n1"), 1, node_id("n2")))
    me.forget()
    me.does("probe_now", node_id("n1"))
    me.passes(2)
    first = next(ms for a, ms in me.packets if a == address_of("n1") and isinstance(ms[0], Ping))
    assert first[1] == Suspect(node_id("n1"), 1, node_id("me"))


def test_a_member_is_probed_once_at_a_time_and_not_without_bound() -> None:
    me = Lone(*(f"n{i}" for i in range(1, 60)), config=replace(RARE, probes_limit=4))
    me.silent = {f"n{number}": None for number in range(1, 60)}
    for _ in range(3):
        for number in range(1, 60):
            me.does("probe_now", node_id(f"n{number}"))
    me.does("probe_now", node_id("unknown"))
    assert me.swim.counters.probes == 5


# --- being asked -----------------------------------------------------------------------------------------


def test_a_ping_is_answered_to_where_it_came_from() -> None:
    me = Lone("n1")
    me.hears(Ping(7, node_id("me")), sender="stranger")
    assert me.said(Ack, to="stranger") == [Ack(7, node_id("me"))]


def test_a_stranger_that_pings_is_asked_who_it_is_once_a_second() -> None:
    me = Lone("n1")
    for _ in range(10):
        me.hears(Ping(7, node_id("me")), sender="stranger")
        me.hears(Ping(8, node_id("me")), sender="n1")
        me.passes(0.15)
    assert me.exchanges == [address_of("stranger")] * 2


def test_a_ping_for_who_was_here_before_is_not_answered() -> None:
    me = Lone("n1")
    me.hears(Ping(7, node_id("predecessor")))
    assert me.packets == []
    assert me.swim.counters.misdirected == 1


def test_who_is_thought_gone_and_pings_is_told_so() -> None:
    for claim in (Dead, Left):
        me = Lone("n1", "n2")
        me.hears(claim(node_id("n1"), 1, node_id("n2")))
        me.hears(Ping(7, node_id("me")), sender="n1")
        assert claim(node_id("n1"), 1, node_id("me")) in me.said(claim, to="n1")


def test_a_ping_for_another_is_relayed_and_its_ack_too() -> None:
    me = Lone("n1", "n2")
    me.hears(PingRequest(7, node_id("n2"), "somewhere:9"), sender="n1")
    [ping, *_] = next(ms for to, ms in me.packets if to == "somewhere:9")
    assert isinstance(ping, Ping)
    me.hears(Ack(ping.number, node_id("n2")), sender="n2")
    assert me.said(Ack, to="n1") == [Ack(7, node_id("n2"))]
    me.passes(0.3)
    assert me.said(Nack) == []


def test_what_does_not_answer_a_relay_is_reported_and_a_late_ack_still_relayed() -> None:
    me = Lone("n1", "n2")
    me.hears(PingRequest(7, node_id("n2"), "somewhere:9"), sender="n1")
    [ping, *_] = next(ms for to, ms in me.packets if to == "somewhere:9")
    assert isinstance(ping, Ping)
    me.passes(0.17)
    assert me.said(Nack, to="n1") == [Nack(7, node_id("me"))]
    me.hears(Ack(ping.number, node_id("n2")), sender="n2")
    assert me.said(Ack, to="n1") == [Ack(7, node_id("n2"))]


def test_relays_are_bounded_and_end() -> None:
    me = Lone("n1", "n2", config=replace(RARE, relays_limit=3))
    for number in range(5):
        me.hears(PingRequest(number, node_id("n2"), "somewhere:9"), sender="n1")
    assert me.swim.counters.relays_dropped == 2
    me.passes(1.1)
    me.hears(PingRequest(9, node_id("n2"), "somewhere:9"), sender="n1")
    assert me.swim.counters.relays_dropped == 2


def test_a_request_to_ping_this_node_is_answered_at_once() -> None:
    me = Lone("n1")
    me.hears(PingRequest(7, node_id("me"), "whatever:1"), sender="n1")
    assert me.said(Ack, to="n1") == [Ack(7, node_id("me"))]
    assert me.said(Ping) == []


def test_a_suspicion_heard_of_is_looked_into() -> None:
    me = Lone("n1", "n2", "n3")
    me.hears(Alive(member("n4")), Suspect(node_id("n4"), 1, node_id("n2")))
    assert [ping.target for ping in me.said(Ping, to="n4")] == [node_id("n4")]
