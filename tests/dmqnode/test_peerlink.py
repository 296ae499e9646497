"""The greeting of two members and what follows, byte by byte, without sockets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode import wire
from dmqnode.errors import ProtocolError
from dmqnode.greetings import PeerChallenge, PeerHello, PeerRefusal, PeerWelcome, WantRoster
from dmqnode.ids import NodeId
from dmqnode.messages import Failed, Message, Ping
from dmqnode.peerlink import (
    OTHER_CLUSTER,
    OTHER_NODE,
    OWN_PAUSE,
    PEER_MAGIC,
    PING_EVERY,
    SILENCE,
    Incoming,
    Outgoing,
    Self,
)
from dmqnode.roster import Member, Roster, encode
from tests.dmqnode.any_message import messages

A = Self(NodeId(b"aaaaaaaa"), 1, 11, b"c" * 16, "dmq", b"k" * 32, "a", "h:1", "0.1")
B = Self(NodeId(b"bbbbbbbb"), 2, 22, b"c" * 16, "dmq", b"k" * 32, "b", "h:2", "0.2")


def welcome(hello: PeerHello) -> Failed | None:
    return None


class Pair:
    """A dials B."""

    def __init__(self, a: Self = A, b: Self = B, wanted: NodeId = B.node) -> None:
        self.out = Outgoing(a, wanted, b"1" * 16, 0.0)
        self.into = Incoming(b, welcome, b"2" * 16, 0.0)
        self.heard: list[Message] = []
        data = self.out.data_to_send()
        assert data == PEER_MAGIC

    def exchange(self, now: float = 0.0, step: int = 1 << 20) -> None:
        """Carry what there is to write, in pieces of `step` bytes, until there is nothing."""
        while self.out.pending or self.into.pending:
            back = self.into.data_to_send()
            for at in range(0, len(back), step):
                self.out.receive_data(now, back[at : at + step])
            forth = self.out.data_to_send()
            for at in range(0, len(forth), step):
                self.heard += self.into.receive_data(now, forth[at : at + step])


@given(st.integers(1, 200))
def test_two_members_greet_and_one_tells_the_other(step: int) -> None:
    pair = Pair()
    pair.exchange(step=step)
    assert pair.out.open
    assert pair.into.open
    assert pair.into.hello is not None
    assert (pair.into.hello.node, pair.into.hello.boot, pair.into.hello.address) == (A.node, 1, "h:1")
    assert pair.out.release == "0.2"
    pair.out.send(WantRoster())
    pair.out.send(WantRoster())
    pair.exchange(step=step)
    assert pair.heard == [WantRoster(), WantRoster()]


def refused(pair: Pair) -> Failed:
    pair.exchange()
    assert not pair.into.open
    assert pair.into.closed
    assert pair.out.refused is not None
    assert pair.out.closed
    return pair.out.refused


def test_members_of_another_cluster_are_sent_away() -> None:
    failed = refused(Pair(a=A._replace(cluster=b"d" * 16, cluster_name="other")))
    assert failed.code == OTHER_CLUSTER
    assert "not of cluster other" in failed.message


def test_who_does_not_know_the_key_is_sent_away() -> None:
    assert refused(Pair(a=A._replace(key=b"x" * 32))).code == "not-authorized"


def test_another_node_than_the_wanted_one_tells_who_the_members_are_and_proves_that_it_knows_the_key() -> (
    None
):
    listed = Roster(7, (Member(A.node, "a", "h:1"), Member(B.node, "b", "h:2")), (A.node,))
    pair = Pair(wanted=NodeId(b"cccccccc"))
    pair.into = Incoming(B, welcome, b"2" * 16, 0.0, lambda: listed)
    assert refused(pair).code == OTHER_NODE
    assert pair.out.elsewhere == listed
    assert (pair.out.refused_by_member, pair.out.refused_by_version) == (False, 0), (
        "what else it says counts not"
    )


def test_a_list_that_is_too_long_for_a_greeting_is_not_told() -> None:
    many = tuple(Member(NodeId(b"%08d" % n), "n", "h" * 200) for n in range(300))
    pair = Pair(wanted=NodeId(b"cccccccc"))
    pair.into = Incoming(B, welcome, b"2" * 16, 0.0, lambda: Roster(7, many))
    assert refused(pair).code == OTHER_NODE
    assert pair.out.elsewhere is None


@pytest.mark.parametrize("forged", [{"record": encode(Roster(9, ()))}, {"version": 8}, {"node": A.node}])
def test_a_list_of_members_from_who_does_not_know_the_key_is_not_believed(forged: dict[str, Any]) -> None:
    pair = Pair(wanted=NodeId(b"cccccccc"))
    pair.into = Incoming(B, welcome, b"2" * 16, 0.0, lambda: Roster(7, ()))
    pair.out.receive_data(0.0, pair.into.data_to_send())
    pair.into.receive_data(0.0, pair.out.data_to_send())
    (frame,) = wire.FrameReader(1 << 16).feed(pair.into.data_to_send())
    said = wire.decode(frame)[1]
    fields = {name: getattr(said, name) for name in PeerRefusal.FIELDS}
    with pytest.raises(ProtocolError, match="not the member"):
        pair.out.receive_data(0.0, b"".join(wire.encode(0, PeerRefusal(**{**fields, **forged}))))
    assert pair.out.elsewhere is None


def test_who_answers_must_know_the_key_too() -> None:
    out = Outgoing(A, B.node, b"1" * 16, 0.0)
    out.receive_data(0.0, b"".join(wire.encode(0, PeerChallenge(1, 1, b"2" * 16))))
    liar = PeerWelcome(B.node, 1, 1, "0.1", b"\x00" * 32)
    with pytest.raises(ProtocolError, match="not the member"):
        out.receive_data(0.0, b"".join(wire.encode(0, liar)))


def send_away(hello: PeerHello) -> Failed | None:
    return Failed("amnesia", "an old backup", False)


def test_a_member_that_sends_another_away_proves_who_it_is() -> None:
    pair = Pair()
    pair.into = Incoming(B, send_away, b"2" * 16, 0.0)
    failed = refused(pair)
    assert (failed.code, failed.message) == ("amnesia", "an old backup")
    assert pair.out.refused_by_member


@pytest.mark.parametrize("code", ["amnesia", "twice", "not-a-member"])
def test_a_stranger_that_sends_members_away_is_not_believed(code: str) -> None:
    def dial() -> Outgoing:
        out = Outgoing(A, B.node, b"1" * 16, 0.0)
        out.receive_data(0.0, b"".join(wire.encode(0, PeerChallenge(1, 1, b"2" * 16))))
        return out

    out = dial()
    out.receive_data(0.0, b"".join(wire.encode(0, Failed(code, "go away", False))))
    assert out.closed
    assert not out.refused_by_member
    with pytest.raises(ProtocolError, match="not the member"):
        dial().receive_data(0.0, b"".join(wire.encode(0, PeerRefusal(code, "go", B.node, b"\x00" * 32))))


@pytest.mark.parametrize("forged", [{"code": "amnesia"}, {"version": 8}])
def test_a_refusal_for_one_reason_cannot_be_made_one_for_another(forged: dict[str, Any]) -> None:
    pair = Pair()
    pair.into = Incoming(
        B, lambda hello: Failed("not-a-member", "no", True), b"2" * 16, 0.0, lambda: Roster(7, ())
    )
    pair.out.receive_data(0.0, pair.into.data_to_send())
    pair.into.receive_data(0.0, pair.out.data_to_send())
    (frame,) = wire.FrameReader(1 << 16).feed(pair.into.data_to_send())
    said = wire.decode(frame)[1]
    assert isinstance(said, PeerRefusal)
    fields = {name: getattr(said, name) for name in PeerRefusal.FIELDS}
    with pytest.raises(ProtocolError, match="not the member"):
        pair.out.receive_data(0.0, b"".join(wire.encode(0, PeerRefusal(**{**fields, **forged}))))
    pair.out.receive_data(0.0, b"".join(wire.encode(0, said)))
    assert (pair.out.refused_by_member, pair.out.refused_by_version) == (True, 7)


def test_a_proof_is_of_no_use_the_next_time() -> None:
    pair = Pair()
    pair.out.receive_data(0.0, pair.into.data_to_send())
    recorded = pair.out.data_to_send()
    again = Incoming(B, welcome, b"3" * 16, 0.0)
    again.receive_data(0.0, recorded)
    assert not again.open


def test_versions_without_a_common_one_part_with_a_sentence() -> None:
    out = Outgoing(A, B.node, b"1" * 16, 0.0)
    with pytest.raises(ProtocolError, match="one release at a time"):
        out.receive_data(0.0, b"".join(wire.encode(0, PeerChallenge(2, 9, b"2" * 16))))


def test_pings_keep_a_silent_link_alive_and_silence_ends_it() -> None:
    pair = Pair()
    pair.exchange()
    now = 0.0
    while now < 3 * SILENCE:
        now += PING_EVERY
        assert pair.out.next_deadline() <= now
        pair.out.tick(now)
        pair.exchange(now)
        pair.into.tick(now)
        assert not pair.out.closed
        assert not pair.into.closed
    assert pair.out.next_deadline() < now + SILENCE
    for side in (pair.out, pair.into):
        side.tick(now + SILENCE + 0.01)
        assert side.closed


def test_the_own_pause_is_not_held_against_the_peer() -> None:
    pair = Pair()
    pair.exchange()
    for side in (pair.out, pair.into):
        side.tick(60.0)
        assert not side.closed, "what the peer said meanwhile is still to be read"
        side.tick(60.0 + OWN_PAUSE + 0.01)
        assert side.closed


def test_a_greeting_that_does_not_come_ends_the_connection() -> None:
    into = Incoming(B, welcome, b"2" * 16, 0.0)
    into.tick(into.next_deadline())
    assert into.closed


@given(messages())
def test_nothing_but_a_hello_begins(message: Message) -> None:
    into = Incoming(B, welcome, b"2" * 16, 0.0)
    data = b"".join(wire.encode(0, message))
    if isinstance(message, PeerHello):
        into.receive_data(0.0, data)
    else:
        with pytest.raises(ProtocolError):
            into.receive_data(0.0, data)
    assert not into.open


@given(messages())
def test_the_listening_side_tells_nothing(message: Message) -> None:
    pair = Pair()
    pair.exchange()
    data = b"".join(wire.encode(0, message))
    if type(message).__name__ == "Pong":
        pair.out.receive_data(0.0, data)
    else:
        with pytest.raises(ProtocolError):
            pair.out.receive_data(0.0, data)


@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_any_bytes_end_in_messages_or_a_protocol_error(pieces: list[bytes], opened: bool) -> None:
    pair = Pair()
    if opened:
        pair.exchange()
    for side in (pair.out, pair.into):
        try:
            for piece in pieces:
                side.receive_data(0.0, piece)
        except ProtocolError:
            pass


def test_a_stranger_cannot_make_the_node_wait_for_a_long_frame() -> None:
    into = Incoming(B, welcome, b"2" * 16, 0.0)
    with pytest.raises(ProtocolError, match="limit"):
        into.receive_data(0.0, (1 << 20).to_bytes(4, "little") + bytes(4))


def test_a_ping_is_answered_and_not_told() -> None:
    pair = Pair()
    pair.exchange()
    assert pair.into.receive_data(0.0, b"".join(wire.encode(0, Ping()))) == []
    assert pair.into.pending
