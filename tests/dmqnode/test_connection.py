"""Both sides of a connection, back to back, without sockets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmqnode import wire
from dmqnode.connection import (
    ANSWERS,
    HELLO_TIMEOUT,
    INITIAL_CREDIT,
    LEAST_COST,
    REQUESTS,
    ClientConnection,
    Connection,
    ServerConnection,
    State,
)
from dmqnode.errors import ProtocolError
from dmqnode.messages import (
    BY_TAG,
    Cancel,
    Cancelled,
    Credit,
    DeleteQueue,
    Done,
    Failed,
    GetQueue,
    Goodbye,
    Hello,
    Leads,
    Members,
    Message,
    Ping,
    Pong,
    PurgeQueue,
    Send,
    Welcome,
)

HELLO = Hello(1, 1, "test:1", "", [], wire.MAX_FRAME)
CREDIT = 100_000
FIRST_PEER_TAG = 64
KEEPALIVE = 30.0


def welcome(hello: Hello) -> Welcome | Failed:
    return Welcome(1, "dmq", "a", [], 1 << 20, CREDIT, KEEPALIVE)


class Pair:
    """A client and a node whose bytes are carried by hand."""

    def __init__(self, hello: Hello = HELLO) -> None:
        self.client = Connection.client(hello, 0.0)
        self.server = Connection.server(welcome, 1 << 20, 0.0)

    def up(self, now: float = 0.0) -> list[tuple[int, Message]]:
        return self.server.receive_data(now, self.client.data_to_send())

    def down(self, now: float = 0.0) -> list[tuple[int, Message]]:
        return self.client.receive_data(now, self.server.data_to_send())


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    assert made.up() == []
    assert made.down() == []
    return made


def frame(message: Message, number: int = 0) -> bytes:
    return b"".join(wire.encode(number, message))


def send(size: int) -> Send:
    return Send("q", b"p" * 16, 1, 1, None, False, bytes(size))  # type: ignore[arg-type]


def test_every_message_is_a_request_an_answer_or_about_the_connection() -> None:
    about = {Hello, Welcome, Ping, Pong, Cancel, Credit, Goodbye, Leads}
    assert len(REQUESTS | ANSWERS | about) == len(REQUESTS) + len(ANSWERS) + len(about)
    spoken_to_clients = {cls for tag, cls in BY_TAG.items() if tag < FIRST_PEER_TAG}
    assert spoken_to_clients == REQUESTS | ANSWERS | about


def test_hello_and_welcome_open_both_sides(pair: Pair) -> None:
    assert pair.client.state is pair.server.state is State.OPEN
    assert pair.server.hello == HELLO
    assert pair.client.welcome == welcome(HELLO)
    assert (pair.client.credit, pair.client.max_frame) == (CREDIT, 1 << 20)


def test_requests_may_follow_hello_at_once() -> None:
    pair = Pair()
    pair.client.request(GetQueue("a"))
    pair.client.request(Members())
    assert pair.up() == [(1, GetQueue("a")), (2, Members())]
    pair.server.send(2, Done(0))
    pair.server.send(1, Done(1))
    assert pair.down() == [(2, Done(0)), (1, Done(1))]
    assert pair.client.under_way == pair.server.under_way == 0


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 40))
def test_the_pieces_do_not_matter(choices: list[int], step: int) -> None:
    kinds: list[Message] = [GetQueue("a"), Members(), send(100), PurgeQueue("x" * 50), DeleteQueue("")]
    client = Connection.client(HELLO, 0.0)
    for choice in choices:
        client.request(kinds[choice])
    data = client.data_to_send()
    whole = Connection.server(welcome, 1 << 20, 0.0).receive_data(0.0, data)
    server = Connection.server(welcome, 1 << 20, 0.0)
    cut = [r for at in range(0, len(data), step) for r in server.receive_data(0.0, data[at : at + step])]
    assert cut == whole == [(n + 1, kinds[c]) for n, c in enumerate(choices)]


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_requests_or_a_protocol_error(data: bytes, greeted: bool) -> None:
    server = Connection.server(welcome, 1 << 20, 0.0)
    if greeted:
        server.receive_data(0.0, wire.MAGIC + frame(HELLO))
    try:
        server.receive_data(0.0, data)
    except ProtocolError as error:
        server.failure_to_send(error)
        assert server.closed


# --- greeting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"DMQ\x02"])
def test_another_protocol_is_recognised(data: bytes) -> None:
    server = Connection.server(welcome, 1 << 20, 0.0)
    with pytest.raises(ProtocolError, match="not its protocol") as caught:
        server.receive_data(0.0, data)
    server.failure_to_send(caught.value)
    assert server.closed
    assert b"this is a dmq node" in server.data_to_send()


def test_the_first_message_must_be_hello() -> None:
    server = Connection.server(welcome, 1 << 20, 0.0)
    with pytest.raises(ProtocolError, match="not Hello"):
        server.receive_data(0.0, wire.MAGIC + frame(Members(), 1))


def test_there_is_one_hello(pair: Pair) -> None:
    with pytest.raises(ProtocolError, match="not for a node"):
        pair.server.receive_data(0.0, frame(HELLO))


def test_no_common_version_is_refused_with_a_sentence() -> None:
    pair = Pair(Hello(2, 3, "new", "", [], 1000))
    pair.client.request(Members())
    assert pair.up() == []
    assert pair.server.closed
    ((number, failed),) = pair.down()
    assert number == 0
    assert isinstance(failed, Failed)
    assert failed.code == "refused"
    assert "versions 1 to 1" in failed.message
    assert pair.client.closed


def test_what_the_node_refuses_ends_the_connection() -> None:
    client = Connection.client(HELLO, 0.0)
    client.request(Members())
    failed = Failed("not-authorized", "no such token", False)
    server = Connection.server(lambda hello: failed, 1 << 20, 0.0)
    assert server.receive_data(0.0, client.data_to_send()) == []
    assert server.receive_data(0.0, frame(Members(), 2)) == []
    assert client.receive_data(0.0, server.data_to_send()) == [(0, failed)]
    assert (client.closed, client.why_closed) == (True, "no such token")
    assert not client.can_send(1)


def test_before_hello_no_long_frame_is_gathered() -> None:
    server = Connection.server(welcome, 1 << 20, 0.0)
    with pytest.raises(ProtocolError, match="limit is 65536"):
        server.receive_data(0.0, wire.MAGIC + (70_000).to_bytes(4, "little") + bytes(4))


def test_a_welcome_of_another_version_breaks_the_protocol() -> None:
    client = Connection.client(HELLO, 0.0)
    with pytest.raises(ProtocolError, match="version 2"):
        client.receive_data(0.0, frame(Welcome(2, "c", "n", [], 1, 1, 1.0)))


# --- requests and answers --------------------------------------------------------------------------------


def test_numbers_must_rise(pair: Pair) -> None:
    pair.client.request(Members(), 5)
    pair.up()
    with pytest.raises(ProtocolError, match="numbers must rise"):
        pair.server.receive_data(0.0, frame(Members(), 5))


def test_an_answer_needs_a_request(pair: Pair) -> None:
    with pytest.raises(ProtocolError, match="request 7, which is not under way"):
        pair.client.receive_data(0.0, frame(Done(1), 7))


def test_a_request_is_answered_once(pair: Pair) -> None:
    pair.client.request(Members())
    pair.client.receive_data(0.0, frame(Done(1), 1))
    with pytest.raises(ProtocolError, match="not under way"):
        pair.client.receive_data(0.0, frame(Done(1), 1))


@pytest.mark.parametrize("message", [Members(), Done(1), Hello(1, 1, "", "", [], 1), Cancel()])
def test_a_node_sends_only_what_is_for_a_client(pair: Pair, message: Message) -> None:
    with pytest.raises(ProtocolError, match="not for a client"):
        pair.client.receive_data(0.0, frame(message, 0))


@pytest.mark.parametrize("message", [Done(1), Credit(5), Goodbye("a", "b"), welcome(HELLO)])
def test_a_client_sends_only_what_is_for_a_node(pair: Pair, message: Message) -> None:
    with pytest.raises(ProtocolError, match="not for a node"):
        pair.server.receive_data(0.0, frame(message, 0))


def test_cancel_reaches_requests_under_way_only(pair: Pair) -> None:
    number = pair.client.request(Members())
    pair.client.cancel(number)
    assert pair.up() == [(1, Members()), (1, Cancel())]
    pair.client.cancel(number)
    pair.server.send(number, Cancelled())
    assert pair.up() == []
    assert pair.down() == [(1, Cancelled())]
    pair.client.cancel(number)
    assert pair.client.data_to_send() == b""


# --- credit ----------------------------------------------------------------------------------------------


def test_before_welcome_requests_fit_the_initial_credit() -> None:
    client = Connection.client(HELLO, 0.0)
    assert client.can_send(INITIAL_CREDIT)
    assert not client.can_send(INITIAL_CREDIT + 1)
    client.request(send(INITIAL_CREDIT - 1000))
    assert not client.can_send(1000)


def test_credit_bounds_what_is_under_way(pair: Pair) -> None:
    number = pair.client.request(send(CREDIT - 1000))
    assert pair.client.can_send(100)
    assert not pair.client.can_send(1100)
    pair.up()
    pair.server.send(number, Done(1))
    pair.down()
    assert pair.client.can_send(CREDIT)


def test_a_frame_longer_than_the_credit_may_go_alone(pair: Pair) -> None:
    assert pair.client.can_send(CREDIT * 2)
    pair.client.request(send(CREDIT * 2))
    assert not pair.client.can_send(1)
    assert len(pair.up()) == 1
    pair.client.request(Members())
    with pytest.raises(ProtocolError, match="requests are under way"):
        pair.up()


def test_short_requests_cost_something_too(pair: Pair) -> None:
    for _ in range(CREDIT // LEAST_COST):
        assert pair.client.can_send(LEAST_COST)
        pair.client.request(Members())
    assert not pair.client.can_send(LEAST_COST)
    assert len(pair.up()) == CREDIT // LEAST_COST
    pair.client.request(Members())
    pair.client.request(Members())
    with pytest.raises(ProtocolError, match="requests are under way"):
        pair.up()


def test_credit_changes(pair: Pair) -> None:
    pair.server.send(0, Credit(1000))
    assert pair.down() == []
    pair.client.request(send(100))
    assert not pair.client.can_send(900)
    pair.server.send(0, Credit(CREDIT * 3))
    pair.down()
    pair.client.request(send(CREDIT * 2))
    pair.client.request(send(1000))
    assert len(pair.up()) == 3


# --- staying alive, leaving ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_silent_peer_is_asked_then_given_up(pair: Pair, side: str) -> None:
    one: ClientConnection | ServerConnection = getattr(pair, side)
    assert one.next_deadline() == KEEPALIVE
    one.tick(KEEPALIVE - 1)
    assert one.data_to_send() == b""
    one.tick(KEEPALIVE)
    assert one.data_to_send() == frame(Ping())
    assert one.next_deadline() == 3 * KEEPALIVE
    one.tick(3 * KEEPALIVE)
    assert one.closed
    assert "silent" in one.why_closed
    assert one.next_deadline() == math.inf


def test_a_pong_keeps_a_connection(pair: Pair) -> None:
    pair.server.tick(KEEPALIVE)
    assert pair.down(KEEPALIVE) == []
    assert pair.up(KEEPALIVE + 1) == []
    assert pair.server.next_deadline() == 2 * KEEPALIVE + 1


def test_a_client_must_say_hello_in_time() -> None:
    server = Connection.server(welcome, 1 << 20, 0.0)
    server.receive_data(HELLO_TIMEOUT - 1, wire.MAGIC)
    assert server.next_deadline() == HELLO_TIMEOUT
    server.tick(HELLO_TIMEOUT)
    assert server.closed


def test_after_goodbye_answers_come_and_requests_stay(pair: Pair) -> None:
    number = pair.client.request(Members())
    pair.up()
    goodbye = Goodbye("stopping", "this node is stopping")
    pair.server.send(0, goodbye)
    assert pair.down() == [(0, goodbye)]
    assert pair.client.state is State.LEAVING
    assert not pair.client.can_send(1)
    pair.server.send(number, Done(1))
    assert pair.down() == [(number, Done(1))]


def test_the_end_of_the_stream_closes(pair: Pair) -> None:
    pair.client.receive_eof()
    assert pair.client.closed
    assert pair.client.next_deadline() == math.inf
    pair.server.receive_eof()
    pair.server.send(1, Done(1))
    assert pair.server.data_to_send() == b""


def test_pending_bytes_are_counted(pair: Pair) -> None:
    pair.client.request(Members())
    assert pair.client.pending_bytes == len(frame(Members(), 1))
    assert len(pair.client.data_to_send()) == len(frame(Members(), 1))
    assert pair.client.pending_bytes == 0
