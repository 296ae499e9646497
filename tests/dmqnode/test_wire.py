"""Any message survives the wire; any bytes give messages or ProtocolError."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode import wire
from dmqnode.batch import encode
from dmqnode.errors import ProtocolError
from dmqnode.ids import LogId, PartitionId
from dmqnode.messages import (
    BY_TAG,
    Ack,
    Blob,
    Cancel,
    CreateQueue,
    Delivered,
    Failed,
    Message,
    Part,
    Ping,
    QueueList,
    Receive,
    Record,
    Send,
    Stored,
    Welcome,
)
from tests.dmqnode.any_message import messages

LOG = b"l" * 20
PARTITION = b"p" * 10
NUMBERS = st.integers(0, 2**63 - 1)


def frame(number: int, message: Message) -> bytes:
    return b"".join(wire.encode(number, message))


def payload(head: Any, blobs: bytes = b"") -> bytes:
    packed = head if isinstance(head, bytes) else cbor2.dumps(head)
    return struct.pack("<I", len(packed)) + packed + blobs


def read_all(data: bytes, cuts: list[int]) -> list[tuple[int, Message]]:
    reader = wire.FrameReader()
    out, at = [], 0
    for cut in [*sorted(cuts), len(data)]:
        out += [wire.decode(p) for p in reader.feed(data[at:cut])]
        at = cut
    return out


@given(st.lists(st.tuples(NUMBERS, messages()), max_size=4), st.data())
def test_messages_survive_however_the_stream_is_cut(sent: list[tuple[int, Message]], data: Any) -> None:
    stream = b"".join(frame(*pair) for pair in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert read_all(stream, cuts) == sent
    assert read_all(stream, list(range(len(stream)))) == sent


@given(st.binary(max_size=200))
def test_any_payload_gives_a_message_or_a_protocol_error(data: bytes) -> None:
    try:
        number, message = wire.decode(data)
    except ProtocolError:
        return
    assert isinstance(message, Message)
    assert number >= 0


@given(NUMBERS, messages(), st.data())
def test_a_damaged_payload_gives_a_message_or_a_protocol_error(
    number: int, message: Message, data: Any
) -> None:
    damaged = bytearray(frame(number, message)[wire.FRAME_HEAD :])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, found = wire.decode(bytes(damaged))
    except ProtocolError:
        return
    assert isinstance(found, Message)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes()
        | st.decimals() | st.fractions() | st.uuids(),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    )
)  # fmt: skip
def test_any_cbor_gives_a_message_or_a_protocol_error(value: Any) -> None:
    for tag in (1, 16, 19, 20, 32, 39):
        fields = value if isinstance(value, list) else [value] * 8
        try:
            head = cbor2.dumps([tag, 1, *fields], timezone=__import__("datetime").UTC)
        except cbor2.CBOREncodeError:
            return
        try:
            wire.decode(payload(head))
        except ProtocolError:
            continue


@given(st.binary(max_size=60))
def test_any_stream_gives_frames_or_a_protocol_error(data: bytes) -> None:
    def outcome(pieces: list[bytes]) -> object:
        reader = wire.FrameReader(1000)
        try:
            return [bytes(p) for piece in pieces for p in reader.feed(piece)]
        except ProtocolError:
            return ProtocolError

    assert outcome([data]) == outcome([data[i : i + 1] for i in range(len(data))])


def test_a_blob_is_behind_the_head_and_its_length_in_it() -> None:
    message = Send("q", b"p" * 16, 1, 0, None, False, b"0123456789")  # type: ignore[arg-type]
    data = frame(7, message)
    assert data.endswith(b"0123456789")
    (size,) = struct.unpack_from("<I", data, 8)
    assert cbor2.loads(data[12 : 12 + size]) == [16, 7, "q", b"p" * 16, 1, 0, None, False, 10, False, 0]
    length, checksum = struct.unpack_from("<II", data)
    assert (length, checksum) == (len(data) - 8, zlib.crc32(data[8:]))


def test_blobs_of_parts_come_in_order() -> None:
    parts = [Part(PARTITION, 1, LOG, n, 1, 1, 5, bytes([65 + n]) * n) for n in range(3)]  # type: ignore[arg-type]
    data = frame(1, Delivered("q", 30.0, parts))
    assert data.endswith(b"BCC")
    assert read_all(data, []) == [(1, Delivered("q", 30.0, parts))]


def test_trailing_defaults_may_be_absent_and_surplus_fields_are_ignored() -> None:
    assert wire.decode(payload([9, 4, "c", "m", True])) == (4, Failed("c", "m", True, "no"))
    assert wire.decode(payload([9, 4, "c", "m", True, "yes", 1, {}])) == (4, Failed("c", "m", True, "yes"))
    assert wire.decode(payload([18, 4, "q", 1, 1, 0, None])) == (4, Receive("q", 1, 1, 0.0, None, ""))


def test_an_integer_is_taken_for_a_number() -> None:
    _, message = wire.decode(payload([18, 1, "q", 1, 1, 20, 30]))
    assert isinstance(message, Receive)
    assert [type(v) for v in (message.wait, message.visibility)] == [float, float]


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ([255, 1], "tag 255 is not known"),
        ([True, 1], "does not begin with"),
        ([3], "does not begin with"),
        ([3, -1], "number is out of range"),
        ([3, 2**64], "number is out of range"),
        ({}, "not an array"),
        ([9, 1, "c"], "has 1 fields, at least 3"),
        ([9, 1, "c", "m", 1], "Failed.retryable: true or false"),
        ([9, 1, b"c", "m", True], "Failed.code: a text"),
        ([7, 0, -1], "Credit.credit: an integer within"),
        ([7, 0, 2**63], "Credit.credit: an integer within"),
        ([7, 0, True], "Credit.credit: an integer within"),
        ([18, 1, "q", 1, 1, float("nan"), None], "Receive.wait: a finite number"),
        ([18, 1, "q", 1, 1, float("inf"), None], "Receive.wait: a finite number"),
        ([18, 1, "q", 1, 1, 10**400, None], "Receive.wait: a finite number"),
        ([20, 1, [[PARTITION, 1, LOG, 1]]], "Ack.held: an array of 5"),
        ([20, 1, [[PARTITION, 1, LOG[1:], 1, 1]]], "Ack.held: an id of 20"),
        ([20, 1, [[PARTITION[1:], 1, LOG, 1, 1]]], "Ack.held: an id of 10"),
        ([20, 1, 5], "Ack.held: an array"),
        ([32, 1, "q", {1: 2}, False], "key that is not a text"),
        ([32, 1, "q", {"a": {2: 3}}, False], "key that is not a text"),
        ([32, 1, "q", {"a": float("inf")}, False], "not finite"),
        ([32, 1, "q", {"a": 2**64}, False], "out of range"),
        ([32, 1, "q", {"a": cbor2.CBORTag(4000, 1)}, False], "type that does not belong"),
        ([32, 1, "q", [], False], "a map is expected"),
        ([16, 1, "q", b"p", 1, 0, None, False, 4], "longer than the frame"),
        ([16, 1, "q", b"p", 1, 0, None, False, -1], "longer than the frame"),
        ([19, 1, "q", 1, [[PARTITION, 1, LOG]]], r"Delivered.parts: a Part has 3 fields"),
        (cbor2.dumps([3, 1]) + b"\0", "longer than the value in it"),
        (b"\x82\x03", "not CBOR"),
        (b"\x82\x03\x01\x01"[:0], "not CBOR"),
        (b"\x81" * 2000, "not CBOR"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(head: Any, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence):
        wire.decode(payload(head))


def test_bytes_that_belong_to_no_field_are_refused() -> None:
    with pytest.raises(ProtocolError, match="accounts for"):
        wire.decode(payload([3, 1], b"x"))


def test_a_head_must_lie_inside_its_frame() -> None:
    with pytest.raises(ProtocolError, match="too short"):
        wire.decode(b"\1\0\0")
    with pytest.raises(ProtocolError, match="longer than the frame"):
        wire.decode(b"\5\0\0\0\1\2\3\4")


def test_shared_values_cannot_unfold_without_bound() -> None:
    shared: list[Any] = [1] * 50
    for _ in range(12):
        shared = [shared] * 50
    head = cbor2.dumps([32, 1, "q", {"a": shared}, False], value_sharing=True)
    with pytest.raises(ProtocolError):
        wire.decode(payload(head))


def test_a_long_or_damaged_frame_is_refused() -> None:
    reader = wire.FrameReader(100)
    with pytest.raises(ProtocolError, match="limit is 100"):
        reader.feed(struct.pack("<II", 101, 0))
    damaged = bytearray(frame(1, Ping()))
    damaged[-1] ^= 1
    with pytest.raises(ProtocolError, match="checksum"):
        wire.FrameReader().feed(bytes(damaged))


def test_every_message_has_a_shape() -> None:
    for message in (Cancel(), Stored([(LOG, 1, 2)], 0), Ack([(PARTITION, 1, LOG, 2, 3)]),  # type: ignore[list-item]
                    CreateQueue("q", {"a": [1, None, {"b": b"c"}]}, True), QueueList([{"n": 1.5}], False),
                    Welcome(1, "c", "n", ["x"], 1, 2, 3.0)):  # fmt: skip
        assert read_all(frame(1, message), []) == [(1, message)]


# --- test vectors ----------------------------------------------------------------------------------------
# One frame per kind of message, for whoever writes this protocol in another language.  After a message was
# added:  .venv/bin/python -m tests.dmqnode.test_wire   writes the file anew; a line that was there before
# must not change.

VECTORS = Path(__file__).with_name("vectors.json")


def _value(hint: Any) -> Any:
    """Return one plain value of a field's type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return _value(args[0])
    if origin is list:
        return [_value(args[0])]
    if origin is tuple:
        return tuple(map(_value, args))
    if isinstance(hint, type) and issubclass(hint, Record):
        return _example(hint)
    plain = {int: 7, float: 2.5, str: "text", bytes: b"bytes", bool: True, dict: {"key": [1, None, "v"]}}
    plain |= {Blob: encode([b"one", b"two"]).blob, LogId: LOG, PartitionId: PARTITION}
    return plain[hint if origin is None else origin]


def _example(cls: type[Record]) -> Any:
    hints = get_type_hints(cls)
    return cls(*(_value(hints[name]) for name in cls.FIELDS))


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {name: _plain(v) for name, v in zip(value.FIELDS, value.values())}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def make_vectors() -> list[dict[str, Any]]:
    vectors = []
    for tag, cls in sorted(BY_TAG.items()):
        message = _example(cls)
        shown = {"message": cls.__name__, "tag": tag, "number": 5, "fields": _plain(message)}
        vectors.append(shown | {"frame": frame(5, message).hex()})
    return vectors


def test_the_vectors_are_what_is_spoken() -> None:
    vectors = {v["tag"]: v for v in json.loads(VECTORS.read_text())}
    assert list(vectors.values()) == [v for v in make_vectors() if v["tag"] in vectors]
    for vector in vectors.values():
        (payload_,) = wire.FrameReader().feed(bytes.fromhex(vector["frame"]))
        number, message = wire.decode(payload_)
        assert (number, type(message).__name__) == (5, vector["message"])
        assert _plain(message) == vector["fields"]


def test_every_message_for_clients_has_a_vector() -> None:
    assert {t for t in BY_TAG if t < 64} <= {v["tag"] for v in json.loads(VECTORS.read_text())}


if __name__ == "__main__":
    VECTORS.write_text("[\n" + ",\n".join(json.dumps(v) for v in make_vectors()) + "\n]\n")
