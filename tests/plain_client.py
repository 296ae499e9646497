"""A client of a real node for tests that must misbehave: a blocking socket and the sans-IO connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from dmqnode.batch import encode, parse
from dmqnode.connection import ClientConnection, Connection
from dmqnode.messages import (
    Ack,
    CreateQueue,
    Delivered,
    Failed,
    Hello,
    Message,
    QueueInfo,
    Receive,
    Send,
    Settled,
    Stored,
)

DEADLINE = 30.0
M = TypeVar("M", bound=Message)


class PlainClient:
    """One connection.  Every wait has a deadline, after which it is an AssertionError."""

    def __init__(self, address: str, *, token: str | None = None, receive_buffer: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect((host, int(port)))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = Hello(1, 1, "plain", "", [], 1 << 24, token)
        self.connection: ClientConnection = Connection.client(hello, 0.0)
        self.answers: dict[int, Message] = {}
        self.notices: list[Message] = []
        self.ended = False
        self._sequence = 0
        self._producer = time.monotonic_ns().to_bytes(8, "big") + id(self).to_bytes(8, "big")

    def __enter__(self) -> PlainClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    # --- requests --------------------------------------------------------------------------------------

    def start(self, message: Message) -> int:
        """Write a request; return its number."""
        number = self.connection.request(message)
        self.flush()
        return number

    def ask(self, message: Message) -> Message:
        """Write a request and return its answer."""
        return self.answer(self.start(message))

    def answer(self, number: int) -> Message:
        """Wait for the answer of a request."""
        while number not in self.answers:
            assert self.read(), f"the node hung up: {self.connection.why_closed}"
        return self.answers.pop(number)

    def flush(self) -> None:
        self.socket.sendall(self.connection.data_to_send())

    def read(self) -> bool:
        """Read once; return False at the end of the stream."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
            return False
        for number, message in self.connection.receive_data(0.0, data):
            if number:
                self.answers[number] = message
            else:
                self.notices.append(message)
        self.flush()
        return True

    def read_to_end(self) -> None:
        """Read until the node hangs up."""
        while self.read():
            pass

    # --- what is asked often ---------------------------------------------------------------------------

    def create(self, queue: str = "q", **settings: Any) -> None:
        self.expect(QueueInfo, self.ask(CreateQueue(queue, settings, True)))

    def send_request(self, bodies: Sequence[bytes], queue: str = "q", *, create: bool = False) -> Send:
        self._sequence += 1
        # None of these tests repeats a send, and sends are answered in order: those before are settled.
        floor = max(0, self._sequence - self.connection.under_way - 1)
        return Send(queue, self._producer, self._sequence, floor, None, create, encode(list(bodies)).blob)

    def send(self, *bodies: bytes, queue: str = "q", create: bool = False) -> Stored:
        return self.expect(Stored, self.ask(self.send_request(bodies, queue, create=create)))

    def receive(
        self, limit: int = 100, queue: str = "q", *, wait: float = 0.0, visibility: float | None = None
    ) -> Delivered:
        return self.expect(Delivered, self.ask(Receive(queue, limit, 1 << 22, wait, visibility)))

    def ack(self, delivered: Delivered) -> Settled:
        held = [(p.partition, p.delivery, p.log, p.first, p.count) for p in delivered.parts]
        return self.expect(Settled, self.ask(Ack(held)))

    def drain(self, queue: str = "q") -> list[bytes]:
        """Receive and ack everything that is ready; return the bodies."""
        found: list[bytes] = []
        while (delivered := self.receive(1000, queue)).parts:
            found += bodies(delivered)
            assert self.ack(delivered).failed == []
        return found

    @staticmethod
    def expect(kind: type[M], message: Message) -> M:
        assert isinstance(message, kind), message
        return message


def bodies(delivered: Delivered) -> list[bytes]:
    """Return the bodies of an answer."""
    return [body for part in delivered.parts for body in parse(part.batch).bodies()]


def code(message: Message) -> str:
    """Return the code of a refusal."""
    assert isinstance(message, Failed), message
    return message.code
