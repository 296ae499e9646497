"""Bytes and requests that mean nothing, or harm: the node says what is wrong, and serves everybody else."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import cbor2
import pytest

from dmqnode import wire
from dmqnode.messages import CreateQueue, Failed, Hello, Members, Receive, Send
from tests.plain_client import PlainClient, code
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow
Start = Callable[..., NodeProcess]


@pytest.fixture
def node(start_node: Start) -> NodeProcess:
    return start_node()


@pytest.fixture
def bystander(node: NodeProcess) -> Iterator[PlainClient]:
    """A client that must not notice anything."""
    with PlainClient(node.address) as client:
        client.create()
        client.send(b"before")
        yield client
        client.send(b"after")
        assert client.drain() == [b"before", b"after"]
    assert node.stop() == 0
    assert "Traceback" not in node.log


def talk(node: NodeProcess, data: bytes) -> bytes:
    """Write `data`, return everything that comes until the node hangs up."""
    found = b""
    with socket.create_connection(("127.0.0.1", node.port), 30) as door:
        try:
            door.sendall(data)
            while piece := door.recv(65536):
                found += piece
        except ConnectionError:
            pass
    return found


def last_words(answer: bytes) -> Failed:
    """Return the Failed with which a node hung up."""
    message = wire.decode(wire.FrameReader().feed(answer)[-1])[1]
    assert isinstance(message, Failed), message
    return message


def frame(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), crc32(payload)) + payload


def head(encoded: bytes) -> bytes:
    return frame(len(encoded).to_bytes(4, "little") + encoded)


HELLO = wire.MAGIC + b"".join(wire.encode(0, Hello(1, 1, "bad", "", [], 1 << 24)))


@pytest.mark.usefixtures("bystander")
class TestTheBytes:
    def test_garbage(self, node: NodeProcess) -> None:
        rng = random.Random(2)
        for _ in range(20):
            failed = last_words(talk(node, rng.randbytes(rng.randint(4, 50_000))))
            assert failed.code == "protocol"
            assert "this is a dmq node" in failed.message

    def test_garbage_behind_a_hello(self, node: NodeProcess) -> None:
        rng = random.Random(3)
        for _ in range(20):
            assert last_words(talk(node, HELLO + rng.randbytes(50_000))).code == "protocol"

    def test_a_web_browser_is_told(self, node: NodeProcess) -> None:
        answer = talk(node, b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert b"this is a dmq node, which does not speak HTTP" in answer

    def test_a_frame_that_is_too_long(self, node: NodeProcess) -> None:
        with PlainClient(node.address) as client:
            client.ask(Members())
            client.socket.sendall(struct.pack("<II", 0x7FFFFFFF, 0))
            client.read_to_end()
            assert client.connection.why_closed == "a frame of 2147483647 bytes came; the limit is 16777216"

    def test_a_long_frame_before_the_welcome(self, node: NodeProcess) -> None:
        failed = last_words(talk(node, wire.MAGIC + struct.pack("<II", 1 << 20, 0) + bytes(1 << 20)))
        assert "the limit is 65536" in failed.message

    def test_a_damaged_frame(self, node: NodeProcess) -> None:
        damaged = bytearray(b"".join(wire.encode(1, Members())))
        damaged[-1] ^= 1
        assert "damaged" in last_words(talk(node, HELLO + damaged)).message

    @pytest.mark.parametrize(
        "encoded",
        [
            b"\x81" * 60_000,  # arrays in arrays
            b"\xd8\x64" * 30_000,  # tags on tags
            b"\xa1\x61a" * 20_000,
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",  # a map of 2^64 - 1 pairs
            b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # a string of 2^63 - 1 bytes
            b"\x83\x0a\x01\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",  # 10 ^ (2^63 - 1)
            b"\x82\x18\x20\xd9\x01\x02\x81\x01",
            cbor2.dumps([18, 1, "q", -1, 1, 1.0, None]),
            cbor2.dumps([18, 1, "q", 2**70, 1, 1.0, None]),
            cbor2.dumps([18, 1, "q", 1, 1, float("nan"), None]),
            cbor2.dumps([18, 1, b"q", 1, 1, 1.0, None]),
            cbor2.dumps([18, -1, "q", 1, 1, 1.0, None]),
            b"\x87\x12\x01\x62\xc3\x28\x01\x01\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00\xf6",  # not UTF-8
            cbor2.dumps([999, 1]),
            cbor2.dumps([]),
        ],
        ids=lambda encoded: encoded[:8].hex(),
    )
    def test_a_frame_that_means_harm(self, node: NodeProcess, encoded: bytes) -> None:
        assert last_words(talk(node, HELLO + head(encoded))).code == "protocol"

    def test_every_prefix_of_a_conversation(self, node: NodeProcess) -> None:
        whole = HELLO + b"".join(wire.encode(1, Members()))
        for cut in range(0, len(whole), 5):
            with socket.create_connection(("127.0.0.1", node.port), 30) as door:
                door.sendall(whole[:cut])


def test_what_is_asked_wrongly_is_refused_in_one_sentence_and_the_connection_goes_on(
    node: NodeProcess, bystander: PlainClient
) -> None:
    client = bystander
    for name in ("", "a b", "a/b", "-a", "é", "x" * 121, "a\nb", "\x00"):
        refused = client.ask(CreateQueue(name, {}, False))
        assert code(refused) == "invalid", name
    settings = [
        {"visibility": "10"},
        {"visibility": -1},
        {"visibility": 1e300},
        {"visibility": True},
        {"retention": 0},
        {"delay": 1e9},
        {"max_attempts": 0, "dead_letter": "d"},
        {"max_attempts": 3},
        {"dead_letter": "a b", "max_attempts": 1},
        {"ordering": "sorted"},
        {"partitions": 0},
        {"partitions": 2.5},
        {"max_message_size": 1 << 40},
        {"paused": 1},
        {"colour": "red"},
    ]
    for wrong in settings:
        refused = client.ask(CreateQueue("other", wrong, False))
        assert code(refused) == "invalid", wrong
        assert "\n" not in refused.message  # type: ignore[attr-defined]
    client.create("small", max_message_size=10)
    assert code(client.ask(client.send_request([b"x" * 11], "small"))) == "too-large"
    assert code(client.ask(client.send_request([b"x"], "nowhere"))) == "queue-not-found"
    assert code(client.ask(Send("small", b"p" * 16, 1, 0, None, False, b"no batch"))) == "invalid"  # type: ignore[arg-type]
    assert code(client.ask(Send("small", b"p" * 16, 1, 0, -1.0, False, client.send_request([b"x"]).batch)))
    assert code(client.ask(Receive("small", 0, 1, 0.0, None))) == "invalid"
    assert code(client.ask(Receive("small", 1, 0, 0.0, None))) == "invalid"
    assert code(client.ask(Receive("small", 1, 1, -1.0, None))) == "invalid"
    assert code(client.ask(Receive("small", 1, 1, 1e9, None))) == "invalid"
    assert code(client.ask(Receive("small", 1, 1, 0.0, 1e9))) == "invalid"


def test_a_token_is_asked_for_where_there_are_some(start_node: Start, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("ann:abcdefgh1\n")
    node = start_node(tokens=str(tokens))
    for wrong in (None, "abcdefgh2", "", "é" * 100):
        with PlainClient(node.address, token=wrong) as client:
            client.flush()
            client.read_to_end()
            assert [code(n) for n in client.notices] == ["not-authorized"]
            assert client.connection.welcome is None
    with PlainClient(node.address, token="abcdefgh1") as client:
        client.create()
