"""Any message survives a packet; any bytes give values or Malformed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import codec
from gossip.codec import Envelope, Kind
from gossip.config import SwimConfig
from gossip.errors import Malformed, Unauthentic
from gossip.messages import (
    ADDRESS_LIMIT,
    INCARNATION_LIMIT,
    META_LIMIT,
    NAME_LIMIT,
    NO_CLUSTER,
    ZONE_LIMIT,
    Ack,
    Alive,
    ClusterId,
    Dead,
    Known,
    Left,
    Member,
    Message,
    Nack,
    NodeId,
    Ping,
    PingRequest,
    Refusal,
    State,
    Status,
    Suspect,
)

NODES = st.binary(min_size=8, max_size=8).map(NodeId)
NUMBERS = st.integers(0, 2**32 - 1)
INCARNATIONS = st.integers(0, INCARNATION_LIMIT - 1)
VERSIONS = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted)


def text(limit: int, smallest: int = 0) -> st.SearchStrategy[str]:
    return st.text(min_size=smallest, max_size=limit // 4)


MEMBERS = st.builds(
    lambda versions, **fields: Member(lowest=versions[0], highest=versions[1], **fields),
    VERSIONS,
    id=NODES,
    name=text(NAME_LIMIT),
    address=text(ADDRESS_LIMIT, 1),
    incarnation=INCARNATIONS,
    zone=text(ZONE_LIMIT),
    weight=st.floats(0, 1e6),
    meta=st.binary(max_size=META_LIMIT),
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, NUMBERS, NODES),
    st.builds(PingRequest, NUMBERS, NODES, text(ADDRESS_LIMIT, 1)),
    st.builds(Ack, NUMBERS, NODES),
    st.builds(Nack, NUMBERS, NODES),
    st.builds(Alive, MEMBERS),
    *(st.builds(claim, NODES, INCARNATIONS, NODES) for claim in (Suspect, Dead, Left)),
)
KNOWN = st.builds(Known, MEMBERS, st.sampled_from(Status), NUMBERS)
STATES = st.builds(State, text(60), st.lists(KNOWN, min_size=1, max_size=5).map(tuple))
ENVELOPES = st.builds(
    Envelope,
    st.sampled_from(Kind),
    st.sampled_from([NO_CLUSTER, ClusterId(b"c" * 16)]),
    NODES,
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=300),
)
KEYS = st.sampled_from([b"", b"key", b"k" * 64])
DECODERS: list[Callable[[bytes], Any]] = [
    codec.decode,
    lambda body: codec.decode_state(body, 100),
    codec.decode_refusal,
    lambda data: codec.unseal(data, b""),
]


@given(st.lists(MESSAGES, max_size=5))
def test_messages_survive(messages: list[Message]) -> None:
    assert codec.decode(b"".join(map(codec.encode, messages))) == messages


@given(STATES)
def test_states_survive(state: State) -> None:
    assert codec.decode_state(codec.encode_state(state), 5) == state


@given(ENVELOPES, KEYS)
def test_envelopes_survive(envelope: Envelope, key: bytes) -> None:
    assert codec.unseal(codec.seal(envelope, key), key) == envelope


@given(st.binary(max_size=300), st.sampled_from(DECODERS))
def test_any_bytes_are_read_or_malformed(data: bytes, decode: Callable[[bytes], Any]) -> None:
    try:
        decode(data)
    except Malformed:
        pass


@given(
    st.lists(MESSAGES, min_size=1, max_size=3).map(lambda ms: b"".join(map(codec.encode, ms)))
    | STATES.map(codec.encode_state),
    st.sampled_from(DECODERS),
    st.data(),
)
def test_damaged_bytes_are_read_or_malformed(body: bytes, decode: Callable[[bytes], Any], data: Any) -> None:
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(damaged[: data.draw(st.integers(0, len(body)))]))
    except Malformed:
        pass


@given(ENVELOPES, KEYS, st.data())
def test_a_single_changed_byte_breaks_the_seal(envelope: Envelope, key: bytes, data: Any) -> None:
    sealed = bytearray(codec.seal(envelope, key))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        codec.unseal(bytes(sealed), key)


def test_another_key_is_not_authentic() -> None:
    sealed = codec.seal(Envelope(Kind.PACKET, NO_CLUSTER, NodeId(b"n" * 8), b"runs", b""), b"one")
    for key in (b"", b"two"):
        with pytest.raises(Unauthentic):
            codec.unseal(sealed, key)


def test_unknown_messages_are_skipped_and_known_ones_may_grow() -> None:
    ping = Ping(7, NodeId(b"n" * 8))
    longer = codec.encode(ping)[2:] + b"a new field"
    unknown = b"\xc8whatever"
    body = b"".join(len(m).to_bytes(2, "big") + m for m in (unknown, longer))
    assert codec.decode(body) == [ping]


def test_a_claim_can_always_be_refuted() -> None:
    high = Suspect(NodeId(b"n" * 8), INCARNATION_LIMIT, NodeId(b"m" * 8))
    with pytest.raises(Malformed, match="incarnation"):
        codec.decode(codec.encode(high))
    member = Member(NodeId(b"n" * 8), "n", "a:1", INCARNATION_LIMIT)
    assert codec.decode(codec.encode(Alive(member))) == [Alive(member)]


def test_the_longest_member_fits_into_a_packet_beside_a_ping() -> None:
    longest = Member(
        NodeId(b"n" * 8),
        "n" * NAME_LIMIT,
        "a" * ADDRESS_LIMIT,
        INCARNATION_LIMIT,
        "z" * ZONE_LIMIT,
        1e6,
        65535,
        65535,
        b"m" * META_LIMIT,
    )
    ping = Ping(1, longest.id)
    assert codec.OVERHEAD + len(codec.encode(ping)) + len(codec.encode(Alive(longest))) <= 1200
    entry = len(codec.encode_state(State("", (Known(longest, Status.ALIVE, 0),))))
    assert entry * (SwimConfig.lan().members_limit + 1) < codec.STATE_LIMIT


def test_a_state_has_a_limit_and_at_least_its_sender() -> None:
    known = Known(Member(NodeId(b"n" * 8), "n", "a:1"), Status.ALIVE, 0)
    with pytest.raises(Malformed, match="limit"):
        codec.decode_state(codec.encode_state(State("", (known,) * 4)), 3)
    with pytest.raises(Malformed):
        codec.decode_state(codec.encode_state(State("", ())), 3)


def test_a_refusal_is_cut_to_its_limit() -> None:
    assert codec.decode_refusal(codec.encode_refusal(Refusal("why"))) == Refusal("why")
    assert len(codec.decode_refusal(codec.encode_refusal(Refusal("€" * 5000))).sentence) <= 1000


def test_every_message_has_its_number_for_ever() -> None:
    tags = {cls.TAG: cls.__name__ for cls in (Ping, PingRequest, Ack, Nack, Alive, Suspect, Dead, Left)}
    assert tags == dict(
        enumerate(("Ping", "PingRequest", "Ack", "Nack", "Alive", "Suspect", "Dead", "Left"), start=1)
    )
    assert [s.name for s in Status] == ["ALIVE", "SUSPECT", "DEAD", "LEFT"]
    assert [f.name for f in dataclasses.fields(Member)][:9] == [
        *("id", "name", "address", "incarnation", "zone", "weight", "lowest", "highest", "meta"),
    ]
