"""States: what is answered, merged and refused. (Joining and founding: test_swim_scenarios.)"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import codec
from gossip.codec import Kind
from gossip.effects import Joined, Refused, Twin
from gossip.messages import NO_CLUSTER, ClusterId, Known, Member
from tests.gossip.lone import ALIVE, DEAD, Lone, member, state_of
from tests.gossip.world import CLUSTER, address_of, node_id

OTHER = ClusterId(b"o" * 16)


def answer(me: Lone, data: bytes) -> codec.Envelope:
    return codec.unseal(me.swim.answer(me.time, data), b"")


def test_the_answer_has_what_came_with_the_question() -> None:
    me = Lone("n1")
    reply = answer(me, state_of(member("n2"), Known(member("n3"), DEAD, 7)))
    state = codec.decode_state(reply.body, 10)
    assert [(known.member.name, known.status) for known in state.known] == [
        *(("me", ALIVE), ("n1", ALIVE), ("n2", ALIVE), ("n3", DEAD)),
    ]
    assert state.known[3].age == 7


def test_a_node_without_a_cluster_tells_only_of_itself() -> None:
    me = Lone(cluster=NO_CLUSTER, seeds=["n1:7367"])
    reply = answer(me, state_of(member("n2")))
    assert reply.cluster == NO_CLUSTER
    assert len(codec.decode_state(reply.body, 10).known) == 1
    assert len(me.swim.members()) == 1


def test_joining_adopts_the_cluster_of_who_was_asked() -> None:
    me = Lone(cluster=NO_CLUSTER, seeds=["n1:7367"])
    me.passes(0.1)
    assert me.exchanges == ["n1:7367"]
    me.hears_state(Known(member("n2"), ALIVE, 0))
    assert me.swim.cluster == CLUSTER
    assert me.events[0] == Joined(CLUSTER, founded=False)
    assert [m.name for m, _ in me.swim.members()] == ["me", "n1", "n2"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (state_of(member("n2"), name="other"), "'other'"),
        (state_of(member("n2"), cluster=OTHER), "two clusters"),
        (state_of(member("n2", lowest=5, highest=6)), "5 to 6"),
        (b"rubbish", "cannot be read"),
        (state_of(member("n2"))[:-1] + b"!", "key"),
    ],
)
def test_what_cannot_be_merged_is_refused_on_both_sides(data: bytes, words: str) -> None:
    me = Lone("n1")
    reply = answer(me, data)
    assert reply.kind is Kind.REFUSAL
    assert words in codec.decode_refusal(reply.body).sentence
    me.swim.merge(me.time, "n2:7367", data)
    me.swim.merge(me.time, "n2:7367", data)
    me.passes(0)
    [refused] = [event for event in me.events if isinstance(event, Refused)]
    assert words in refused.sentence
    assert len(me.swim.members()) == 2


def test_another_reason_is_told_again() -> None:
    me = Lone("n1")
    for data in (state_of(member("n2"), name="other"), state_of(member("n2"), cluster=OTHER)):
        me.swim.merge(me.time, "n2:7367", data)
    me.passes(0)
    assert sum(isinstance(event, Refused) for event in me.events) == 2


def test_a_state_must_begin_with_its_sender() -> None:
    me = Lone("n1")
    body = codec.encode_state(codec.State("test", (Known(member("n3"), ALIVE, 0),)))
    data = codec.seal(codec.Envelope(Kind.STATE, CLUSTER, node_id("n2"), b"runs", body), b"")
    assert answer(me, data).kind is Kind.REFUSAL


def test_this_node_itself_is_recognised_and_not_asked_again() -> None:
    me = Lone(seeds=["alias:1"])
    me.passes(0.1)
    assert me.exchanges == ["alias:1"]
    me.swim.merge(me.time, "alias:1", me.swim.answer(me.time, me.swim.state_for_push_pull(me.time)))
    me.forget()
    me.passes(30)
    assert me.exchanges == []
    assert me.events == []


def test_another_process_of_the_same_id_is_told_once() -> None:
    me = Lone("n1")
    for _ in range(2):
        me.swim.answer(me.time, state_of(member("me", address="twin:1")))
    me.passes(0)
    assert me.events == [Twin("twin:1")]


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_merged_and_received_without_harm(data: bytes) -> None:
    me = Lone("n1")
    assert answer(me, data).kind is Kind.REFUSAL
    me.swim.merge(me.time, "n2:7367", data)
    me.swim.receive(me.time, "n2:7367", data)
    assert len(me.swim.members()) == 2


def test_an_exchange_with_a_seed_by_another_name_keeps_it_from_being_tried() -> None:
    me = Lone("n1", seeds=["alias:1"])
    me.passes(3)
    assert "alias:1" in me.exchanges
    me.hears_state(sender="n1", address="alias:1")
    me.forget()
    me.passes(60)
    assert "alias:1" not in me.exchanges
    assert isinstance(me.swim.me, Member)
    assert address_of("n1") in me.exchanges
