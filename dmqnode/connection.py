"""One connection's protocol, for either side, without any input or output.

The shell that owns a socket hands over what arrived (`receive_data`), writes what there is to write
(`data_to_send`), and calls `tick` when `next_deadline` has come.

    side that dialled            side that was dialled
    GREETING  Hello written      GREETING  waits for the magic and Hello
    OPEN      Welcome came       OPEN      Welcome written
    LEAVING   Goodbye came       LEAVING   Goodbye written
    CLOSED                       CLOSED

In GREETING the dialling side may already write requests, as many as fit INITIAL_CREDIT, so that a
command needs one round trip.  In LEAVING answers still come, new requests are not written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum

from dmqnode import wire
from dmqnode.errors import ProtocolError
from dmqnode.messages import (
    Ack,
    Browse,
    Browsed,
    Cancel,
    Cancelled,
    CreateQueue,
    Credit,
    DeleteQueue,
    Delivered,
    Done,
    Explain,
    Extend,
    Failed,
    GetQueue,
    Goodbye,
    Hello,
    Leads,
    ListQueues,
    Members,
    Message,
    Nack,
    NodeStatus,
    Ping,
    Pong,
    PurgeQueue,
    QueueInfo,
    QueueList,
    Receive,
    Redrive,
    Report,
    Send,
    SetQueue,
    Settled,
    Step,
    Stored,
    Welcome,
)

PROTOCOL_LOWEST = 1
PROTOCOL_HIGHEST = 1
INITIAL_CREDIT = 64 << 10
"""Bytes of requests that a client may write before it has read Welcome."""
LEAST_COST = 256
"""What a request takes of the credit however short it is, so that credit bounds their number, too."""
HELLO_TIMEOUT = 10.0
"""Seconds within which a client must say who it is."""
_HTTP = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN")
_HTTP_ANSWER = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"this is a dmq node, which does not speak HTTP; ask it with the dmq command\n"
)

_OF_MESSAGES = (Send, Receive, Ack, Nack, Extend, Browse, Redrive, NodeStatus, Members, Step)
_OF_QUEUES = (CreateQueue, SetQueue, DeleteQueue, PurgeQueue, GetQueue, ListQueues, Explain)
REQUESTS: frozenset[type[Message]] = frozenset((*_OF_MESSAGES, *_OF_QUEUES))
ANSWERS: frozenset[type[Message]] = frozenset(
    (Stored, Delivered, Settled, QueueInfo, QueueList, Browsed, Report, Done, Cancelled, Failed)
)


class State(Enum):
    """How far a connection is."""

    GREETING = "greeting"
    OPEN = "open"
    LEAVING = "leaving"
    CLOSED = "closed"


class Connection:
    """What both sides share: framing, keeping alive, and the bytes that wait to be written.

    Made by `Connection.client` or `Connection.server`.  `state` is how far it is; `why_closed` a
    sentence once it is closed by this side's decision.
    """

    def __init__(self, now: float, max_frame: int) -> None:
        self.state = State.GREETING
        self.why_closed = ""
        self.keepalive = math.inf
        self._reader = wire.FrameReader(max_frame)
        self._outbox: list[bytes] = []
        self.pending_bytes = 0
        self._heard = now
        self._pinged = False
        self._costs: dict[int, int] = {}
        self._used = 0

    @staticmethod
    def client(hello: Hello, now: float) -> ClientConnection:
        """Begin on the side that dialled; `hello` is what it says of itself."""
        return ClientConnection(hello, now)

    @staticmethod
    def server(welcome: Callable[[Hello], Welcome | Failed], max_frame: int, now: float) -> ServerConnection:
        """Begin on the side that was dialled.

        Arguments:
            welcome: decides about a Hello of a known version; Failed ends the connection.
            max_frame: the longest payload to accept, bytes.
        """
        return ServerConnection(welcome, max_frame, now)

    @property
    def closed(self) -> bool:
        """Whether nothing more will be read or asked; what is pending should still be written."""
        return self.state is State.CLOSED

    @property
    def under_way(self) -> int:
        """How many requests have no answer yet."""
        return len(self._costs)

    @property
    def partial_bytes(self) -> int:
        """How many bytes of a frame have come that is not whole yet."""
        return self._reader.held

    def data_to_send(self) -> bytes:
        """Return everything that waits to be written, once; b"" if there is nothing."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        self.pending_bytes = 0
        return data

    def ping(self) -> None:
        """Ask the peer whether it is there."""
        self._write(0, Ping())

    def receive_eof(self) -> None:
        """The peer will write no more."""
        self._close("the peer closed the connection")

    def tick(self, now: float) -> None:
        """Do what is due: ask a silent peer whether it is there; close when it stays silent."""
        if self.closed or now < self.next_deadline():
            return
        if self._pinged or self.state is State.GREETING:
            self._close("the peer was silent for too long")
        else:
            self._pinged = True
            self._write(0, Ping())

    def next_deadline(self) -> float:
        """Return when `tick` must be called, math.inf for never."""
        if self.closed:
            return math.inf
        return self._heard + self.keepalive * (3 if self._pinged else 1)

    def _close(self, why: str) -> None:
        if not self.closed:
            self.state = State.CLOSED
            self.why_closed = why

    def _write(self, number: int, message: Message) -> int:
        pieces = wire.encode(number, message)
        self._outbox += pieces
        size = sum(map(len, pieces))
        self.pending_bytes += size
        return size

    def _charge(self, number: int, size: int) -> None:
        self._costs[number] = cost = max(size, LEAST_COST)
        self._used += cost

    def _settle(self, number: int) -> bool:
        cost = self._costs.pop(number, 0)
        self._used -= cost
        return cost > 0

    def _frames(self, now: float, data: bytes) -> list[tuple[int, int, Message]]:
        """Cut `data` into (frame size, number, message)."""
        # Bytes do not prolong the greeting: a client that trickles them must come to the point.
        if data and self.state is not State.GREETING:
            self._heard = now
            self._pinged = False
        return [(len(p) + wire.FRAME_HEAD, *wire.decode(p)) for p in self._reader.feed(data)]


class ClientConnection(Connection):
    """The side that dialled: it asks, and is told."""

    def __init__(self, hello: Hello, now: float) -> None:
        super().__init__(now, hello.max_frame)
        self.welcome: Welcome | None = None
        self.max_frame = INITIAL_CREDIT
        """The longest request frame that the node reads, bytes."""
        self.credit = INITIAL_CREDIT
        self._number = 0
        self._outbox.append(wire.MAGIC)
        self._write(0, hello)

    def can_send(self, size: int) -> bool:
        """Tell whether a request of `size` bytes may be written now.

        One that is longer than the whole credit may go when nothing else is under way.
        """
        if self.state is State.OPEN:
            return not self._used or self._used + size <= self.credit
        return self.state is State.GREETING and self._used + size <= INITIAL_CREDIT

    def request(self, message: Message, number: int | None = None) -> int:
        """Write a request and return its number; the caller has asked `can_send`.

        Arguments:
            message: one of REQUESTS.
            number: higher than every one before; the next by default.
        """
        assert type(message) in REQUESTS
        number = self._number + 1 if number is None else number
        assert number > self._number
        self._number = number
        self._charge(number, self._write(number, message))
        return number

    def cancel(self, number: int) -> None:
        """Ask to give up a request; it is still answered.  One that has been answered is left alone."""
        if number in self._costs and not self.closed:
            self._write(number, Cancel())

    def receive_data(self, now: float, data: bytes) -> list[tuple[int, Message]]:
        """Take bytes from the node; return answers (by request number), and Goodbye, Failed and Leads as 0.

        Errors: ProtocolError, after which the connection is of no use.
        """
        out: list[tuple[int, Message]] = []
        for _, number, message in self._frames(now, data):
            if self.closed:
                break
            if type(message) in ANSWERS and number:
                if not self._settle(number):
                    raise ProtocolError(f"the node answered request {number}, which is not under way")
                if self.welcome is None:
                    raise ProtocolError("the node answered before its Welcome")
                out.append((number, message))
            elif self._control(number, message):
                out.append((0, message))
        return out

    def _control(self, number: int, message: Message) -> bool:
        """Act on what is not an answer; tell whether the caller should see it."""
        match message:
            case Welcome() if self.welcome is None:
                self._open(message)
            case Failed():
                self._close(message.message)
                return True
            case Goodbye():
                if self.state is State.OPEN:
                    self.state = State.LEAVING
                return True
            case Credit():
                self.credit = message.credit
            case Leads():
                return True
            case Ping():
                self._write(number, Pong())
            case Pong():
                pass
            case _:
                raise ProtocolError(f"the node sent {type(message).__name__}, which is not for a client")
        return False

    def _open(self, welcome: Welcome) -> None:
        if not PROTOCOL_LOWEST <= welcome.version <= PROTOCOL_HIGHEST:
            raise ProtocolError(f"the node chose version {welcome.version}, which was not offered")
        self.state = State.OPEN
        self.welcome = welcome
        self.max_frame = welcome.max_frame
        self.credit = welcome.credit
        self.keepalive = welcome.keepalive or math.inf


class ServerConnection(Connection):
    """The side that was dialled: it answers."""

    def __init__(self, welcome: Callable[[Hello], Welcome | Failed], max_frame: int, now: float) -> None:
        super().__init__(now, min(max_frame, INITIAL_CREDIT))
        self._max_frame = max_frame
        self.keepalive = HELLO_TIMEOUT
        self.hello: Hello | None = None
        self._welcome = welcome
        self._limit = INITIAL_CREDIT
        self._magic = b""
        self._last = 0

    def send(self, number: int, message: Message) -> None:
        """Write an answer to request `number`, or with 0 Credit or Goodbye."""
        if self.closed:
            return
        if number:
            assert type(message) in ANSWERS
            self._settle(number)
        elif type(message) is Credit:
            # What was allowed may be on its way already: a lower credit binds the client, not the check.
            self._limit = max(self._limit, message.credit)
        elif type(message) is Goodbye:
            self.state = State.LEAVING
        self._write(number, message)

    def failure_to_send(self, error: ProtocolError) -> None:
        """Tell the client, as the last thing, how it broke the protocol."""
        if not self.closed:
            if self._magic in _HTTP:
                self._outbox.append(_HTTP_ANSWER)
                self.pending_bytes += len(_HTTP_ANSWER)
            else:
                self._write(0, Failed(error.code, str(error), False))
            self._close(str(error))

    def receive_data(self, now: float, data: bytes) -> list[tuple[int, Message]]:
        """Take bytes from the client; return its requests and Cancels, by number.

        Errors: ProtocolError; hand it to `failure_to_send`, write what is pending, and hang up.
        """
        if self.closed:
            return []
        if len(self._magic) < len(wire.MAGIC):
            data = self._read_magic(data)
        out: list[tuple[int, Message]] = []
        for size, number, message in self._frames(now, data):
            if self.hello is None:
                if not self._greet(message):
                    break
            elif type(message) in REQUESTS:
                self._admit(number, size)
                out.append((number, message))
            elif type(message) is Cancel:
                if number in self._costs:
                    out.append((number, message))
            elif type(message) is Ping:
                self._write(number, Pong())
            elif type(message) is not Pong:
                raise ProtocolError(f"a client sent {type(message).__name__}, which is not for a node")
        return out

    def _read_magic(self, data: bytes) -> bytes:
        missing = len(wire.MAGIC) - len(self._magic)
        self._magic += data[:missing]
        if not wire.MAGIC.startswith(self._magic):
            raise ProtocolError("this is a dmq node, and what came is not its protocol")
        return data[missing:]

    def _greet(self, hello: Message) -> bool:
        """Answer the first message; tell whether the client may go on."""
        if not isinstance(hello, Hello):
            raise ProtocolError(f"the first message was {type(hello).__name__}, not Hello")
        answer: Welcome | Failed
        if hello.lowest > PROTOCOL_HIGHEST or hello.highest < PROTOCOL_LOWEST:
            answer = Failed(
                "refused",
                f"this node speaks versions {PROTOCOL_LOWEST} to {PROTOCOL_HIGHEST} of the protocol, the "
                f"client {hello.lowest} to {hello.highest}; use a client of the node's release",
                False,
            )
        else:
            answer = self._welcome(hello)
        self._write(0, answer)
        if isinstance(answer, Failed):
            self._close(answer.message)
            return False
        self.hello = hello
        self.state = State.OPEN
        self.keepalive = answer.keepalive or math.inf
        self._limit = max(self._limit, answer.credit)
        self._reader.max_frame = self._max_frame
        return True

    def _admit(self, number: int, size: int) -> None:
        if number <= self._last:
            raise ProtocolError(f"request number {number} came after {self._last}; numbers must rise")
        # A frame longer than the credit may come alone, so one frame of excess is lawful.
        if self._used > self._limit:
            raise ProtocolError(f"more than {self._limit} bytes of requests are under way")
        self._last = number
        self._charge(number, size)
