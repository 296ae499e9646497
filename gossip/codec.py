"""How messages become bytes and bytes messages.

    envelope  u8 format · u8 kind · cluster id (16, zeros: none) · sender (8) · run (4) · seal (16) · body
    packet    body of kind 1: (u16 length · message) …
    state     body of kind 2: cluster's name · u32 count · (u16 length · status · u32 age · member) …
    refusal   body of kind 3: a sentence
    message   u8 tag · fields in the order of `messages`

Big-endian; text and meta have their length (u16) in front. The seal is BLAKE2b over all but itself, keyed
with the cluster key where there is one, a checksum where not. A message of an unknown tag is skipped, and
bytes behind the known fields are ignored, so that both can grow. `run` is random and new at each start:
it tells one process from another that claims to be the same member.
Whatever the bytes, reading them gives values or `Malformed`, nothing else.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Any, assert_never

from gossip.errors import InvalidSetting, Malformed, Unauthentic
from gossip.messages import (
    CLUSTER_ID_SIZE,
    INCARNATION_LIMIT,
    NO_CLUSTER,
    NODE_ID_SIZE,
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

FORMAT = 1
SEAL_SIZE = 16
RUN_SIZE = 4
KEY_LIMIT = 64
"""The longest cluster key, bytes."""
STATE_LIMIT = 12 << 20
"""The longest state that is read: 10,000 members with all fields at their longest."""
SENTENCE_LIMIT = 1000

_HEAD = struct.Struct(f">BB{CLUSTER_ID_SIZE}s{NODE_ID_SIZE}s{RUN_SIZE}s")
_NUMBERED = struct.Struct(f">BI{NODE_ID_SIZE}s")
_CLAIM = struct.Struct(f">B{NODE_ID_SIZE}sQ{NODE_ID_SIZE}s")
_MEMBER = struct.Struct(f">{NODE_ID_SIZE}sQdHH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_STATUS = struct.Struct(">BI")
_NO_CLUSTER = bytes(CLUSTER_ID_SIZE)
_ACKS: dict[int, type[Ack] | type[Nack]] = {Ack.TAG: Ack, Nack.TAG: Nack}
_CLAIMS: dict[int, type[Suspect] | type[Dead] | type[Left]] = {
    Suspect.TAG: Suspect,
    Dead.TAG: Dead,
    Left.TAG: Left,
}

OVERHEAD = _HEAD.size + SEAL_SIZE
"""Bytes of a packet around its messages."""


class Kind(IntEnum):
    """What an envelope holds."""

    PACKET = 1
    STATE = 2
    REFUSAL = 3


@dataclass(frozen=True, slots=True)
class Envelope:
    """Bytes that came intact, and from whom."""

    kind: Kind
    cluster: ClusterId
    sender: NodeId
    run: bytes
    body: bytes


# --- envelopes -------------------------------------------------------------------------------------------


def seal(envelope: Envelope, key: bytes) -> bytes:
    """Return the bytes of an envelope, sealed with `key` (empty: none)."""
    head = _HEAD.pack(FORMAT, envelope.kind, envelope.cluster or _NO_CLUSTER, envelope.sender, envelope.run)
    return head + _seal_of(head, envelope.body, key) + envelope.body


def unseal(data: bytes, key: bytes) -> Envelope:
    """Return the envelope in these bytes.

    Errors: Unauthentic where the seal is not right, Malformed for anything else.
    """
    if not OVERHEAD <= len(data) <= STATE_LIMIT:
        raise Malformed(f"{len(data)} bytes are no packet and no state")
    form, kind, cluster, sender, run = _HEAD.unpack_from(data)
    if form != FORMAT:
        raise Malformed(f"format {form} is not known; this node reads {FORMAT}")
    head, body = data[: _HEAD.size], data[OVERHEAD:]
    if not hmac.compare_digest(_seal_of(head, body, key), data[_HEAD.size : OVERHEAD]):
        raise Unauthentic("a seal does not fit: damaged, or made with another cluster key")
    if not Kind.PACKET <= kind <= Kind.REFUSAL:
        raise Malformed(f"kind {kind} is not known")
    found = NO_CLUSTER if cluster == _NO_CLUSTER else ClusterId(cluster)
    return Envelope(Kind(kind), found, NodeId(sender), run, body)


def _seal_of(head: bytes, body: bytes, key: bytes) -> bytes:
    digest = blake2b(head, digest_size=SEAL_SIZE, key=key)
    digest.update(body)
    return digest.digest()


# --- messages --------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Return the bytes of one message with its length in front: packets are such, one behind the other."""
    match message:
        case Ping():
            data = _NUMBERED.pack(message.TAG, message.number, message.target)
        case PingRequest():
            data = _NUMBERED.pack(message.TAG, message.number, message.target) + _text(message.address)
        case Ack() | Nack():
            data = _NUMBERED.pack(message.TAG, message.number, message.source)
        case Alive():
            data = bytes((message.TAG,)) + _encode_member(message.member)
        case Suspect() | Dead() | Left():
            data = _CLAIM.pack(message.TAG, message.node, message.incarnation, message.source)
        case _:
            assert_never(message)
    return _U16.pack(len(data)) + data


def decode(body: bytes) -> list[Message]:
    """Read the messages of a packet, those of unknown tags left out.

    Errors: Malformed.
    """
    reader, messages = _Reader(body), []
    while not reader.at_end:
        message = _decode_one(_Reader(reader.counted()))
        if message is not None:
            messages.append(message)
    return messages


def _decode_one(reader: _Reader) -> Message | None:
    tag = reader.peek()
    if tag == Ping.TAG:
        _, number, node = reader.fields(_NUMBERED)
        return Ping(number, NodeId(node))
    if tag == PingRequest.TAG:
        _, number, node = reader.fields(_NUMBERED)
        address = reader.text()
        if not address:
            raise Malformed("a ping is requested to no address")
        return PingRequest(number, NodeId(node), address)
    if tag in _ACKS:
        _, number, node = reader.fields(_NUMBERED)
        return _ACKS[tag](number, NodeId(node))
    if tag == Alive.TAG:
        reader.take(1)
        return Alive(_read_member(reader))
    if tag in _CLAIMS:
        _, node, incarnation, source = reader.fields(_CLAIM)
        if incarnation >= INCARNATION_LIMIT:
            raise Malformed("an incarnation is out of range")
        return _CLAIMS[tag](NodeId(node), incarnation, NodeId(source))
    return None


def _encode_member(member: Member) -> bytes:
    return (
        _MEMBER.pack(member.id, member.incarnation, member.weight, member.lowest, member.highest)
        + _text(member.name)
        + _text(member.address)
        + _text(member.zone)
        + _counted(member.meta)
    )


def _read_member(reader: _Reader) -> Member:
    node, incarnation, weight, lowest, highest = reader.fields(_MEMBER)
    name, address, zone, meta = reader.text(), reader.text(), reader.text(), reader.counted()
    try:
        return Member(NodeId(node), name, address, incarnation, zone, weight, lowest, highest, meta)
    except InvalidSetting as error:
        raise Malformed(str(error)) from error


# --- whole states ----------------------------------------------------------------------------------------


def encode_state(state: State) -> bytes:
    """Return the body of a state."""
    pieces = [_text(state.cluster_name), _U32.pack(len(state.known))]
    for known in state.known:
        age = min(max(known.age, 0), 0xFFFFFFFF)
        pieces.append(_counted(_STATUS.pack(known.status, age) + _encode_member(known.member)))
    return b"".join(pieces)


def decode_state(body: bytes, limit: int) -> State:
    """Read the body of a state of at most `limit` members.

    Errors: Malformed.
    """
    reader = _Reader(body)
    name = reader.text()
    (count,) = reader.fields(_U32)
    if not 1 <= count <= limit:
        raise Malformed(f"a state has {count} members; the limit is {limit}")
    known: list[Known] = []
    for _ in range(count):
        entry = _Reader(reader.counted())
        status, age = entry.fields(_STATUS)
        if status > Status.LEFT:
            raise Malformed(f"status {status} is not known")
        known.append(Known(_read_member(entry), Status(status), age))
    return State(name, tuple(known))


def encode_refusal(refusal: Refusal) -> bytes:
    """Return the body of a refusal."""
    return _text(refusal.sentence[: SENTENCE_LIMIT // 4])


def decode_refusal(body: bytes) -> Refusal:
    """Read the body of a refusal. Errors: Malformed."""
    return Refusal(_Reader(body).text()[:SENTENCE_LIMIT])


# --- fields ----------------------------------------------------------------------------------------------


def _counted(data: bytes) -> bytes:
    return _U16.pack(len(data)) + data


def _text(text: str) -> bytes:
    return _counted(text.encode())


class _Reader:
    """Takes fields off bytes, never beyond their end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def peek(self) -> int:
        if self.at_end:
            raise Malformed("a message is empty")
        return self._data[self._at]

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise Malformed("a field is longer than what holds it")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def fields(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def counted(self) -> bytes:
        (size,) = _U16.unpack(self.take(2))
        return self.take(size)

    def text(self) -> str:
        try:
            return self.counted().decode()
        except UnicodeDecodeError as error:
            raise Malformed("a text is not UTF-8") from error
