"""One accepted connection: bytes to requests, answers to bytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from dmqnode.connection import Connection
from dmqnode.errors import ProtocolError
from dmqnode.logs import say
from dmqnode.messages import Delivered, Goodbye, Message

if TYPE_CHECKING:
    from dmqnode.node import Node

READ_SIZE = 256 << 10
OUTBOX_LIMIT = 32 << 20
"""Bytes of answers beyond which nothing more is read from a client that does not read them."""
WRITE_TIMEOUT = 60.0
"""Seconds after which a client that takes nothing is given up."""


class ConnectionSession:
    """Serves one client until either side ends it.

    Two tasks: one reads requests and hands them to the broker, one writes whatever answers have
    gathered, all at once.
    """

    def __init__(self, node: Node, stream: trio.abc.Stream) -> None:
        self._node = node
        self._stream = stream
        self._connection = Connection.server(node.welcome, node.config.max_frame, trio.current_time())
        self._number: int | None = None
        self._wake = trio.Event()
        self._drained = trio.Event()
        self._unsent: list[Delivered] = []
        self._closing = False

    async def run(self) -> None:
        """Serve the connection; returns when it has ended.  Cancelling closes it at once."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                self._closing = True
                self._wake.set()
        finally:
            if self._number is not None:
                self._node.close_session(self._number, self._unsent)
            with trio.move_on_after(0, shield=True):
                await self._stream.aclose()

    def send(self, number: int, message: Message) -> None:
        """Queue one answer; the writer takes all that have gathered."""
        self._connection.send(number, message)
        if type(message) is Delivered and message.parts:
            self._unsent.append(message)
        self._wake.set()

    def say_goodbye(self, code: str, reason: str) -> None:
        """Tell the client that this node will close, then close once everything is written."""
        if self._connection.hello is not None:
            self._connection.send(0, Goodbye(code, reason))
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether everything that was queued is written."""
        return not self._connection.pending_bytes and not self._unsent

    async def _read(self) -> None:
        connection, node = self._connection, self._node
        while True:
            data = None
            with trio.move_on_at(connection.next_deadline()):
                data = await self._receive()
            now = trio.current_time()
            if data == b"":
                return
            try:
                requests = [] if data is None else connection.receive_data(now, data)
                if data is None:
                    connection.tick(now)
            except ProtocolError as error:
                say("a client broke the protocol", level=logging.WARNING, why=str(error), client=self._client)
                connection.failure_to_send(error)
                self._wake.set()
                return
            if self._number is None and connection.hello is not None and not connection.closed:
                self._number = node.open_session(connection.hello, self)
            if requests:
                assert self._number is not None
                node.receive(self._number, requests)
            if connection.pending_bytes:
                self._wake.set()
            if connection.closed:
                return
            if connection.pending_bytes > OUTBOX_LIMIT:
                self._drained = trio.Event()
                await self._drained.wait()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    @property
    def _client(self) -> str:
        return self._connection.hello.client if self._connection.hello is not None else "unknown"

    async def _write(self) -> None:
        while True:
            data = self._connection.data_to_send()
            if not data:
                if self._closing:
                    return
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            leaving, self._unsent = self._unsent, []
            try:
                with trio.fail_after(WRITE_TIMEOUT):
                    await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                # Part of it may have arrived: what was leaving stays hidden until its time.
                del leaving
                await self._stream.aclose()
                self._drained.set()
            self._node.sent()
                return
            self._node.broker.counters.sent_bytes += len(data)
            self._drained.set()
            self._node.sent()
