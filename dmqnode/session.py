"""One accepted connection: bytes to requests, answers to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from dmqnode.connection import Connection
from dmqnode.errors import ProtocolError
from dmqnode.logs import say_rarely
from dmqnode.messages import Browse, Delivered, Explain, GetQueue, Goodbye, ListQueues, Message
from dmqnode.peerlink import PEER_MAGIC
from dmqnode.sockets import receive

if TYPE_CHECKING:
    from dmqnode.doors import Doors
    from dmqnode.node import Node

READ_SIZE = 256 << 10
WRITE_SIZE = 256 << 10
"""Bytes that are written at once, and for which WRITE_TIMEOUT holds."""
WRITE_TIMEOUT = 60.0
"""Seconds after which a client that takes nothing is given up."""
OUTBOX_LIMIT = 4 << 20
"""Bytes of unread answers beyond which a client gets no messages and nothing more is read from it."""
LINGER = 1.0
"""Seconds for which a client that is told why it is hung up on has time to read it."""
LINGER_BYTES = 1 << 20
QUESTIONS = frozenset((Browse, Explain, GetQueue, ListQueues))
"""What is answered from the disk, at length: few of these are under way at once."""


class ConnectionSession:
    """Serves one client until either side ends it.

    Two tasks: one reads requests and hands them to the broker, one writes whatever answers have
    gathered, all at once.  What the socket takes without waiting is written by `flush` already: that
    saves most answers a switch of tasks.
    """

    def __init__(self, node: Node, doors: Doors, stream: trio.abc.HalfCloseableStream) -> None:
        self._node = node
        self._doors = doors
        self._stream = stream
        self._write_now = node.machine.writer(stream)
        self._connection = Connection.server(node.welcome, node.config.max_frame, trio.current_time())
        self._number: int | None = None
        self._scope = trio.CancelScope()
        self._wake = trio.Event()
        self._drained = trio.Event()
        self._unsent: list[Delivered] = []
        self._rest = b""
        self._leaving = 0
        self._progress = 0.0
        self._closing = False
        self._blocked = False
        self._head: bytes | None = b""
        """The first bytes, while they may be a peer's magic; None once they are not."""
        self._peer: bytes | None = None
        """What came of a peer, behind its magic, when it is one."""

    async def run(self) -> None:
        """Serve the connection; returns when it has ended.  Cancelling closes it at once."""
        told = False
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    told = await self._read()
                    self._closing = True
                    self._wake.set()
                    if not told:
                        nursery.cancel_scope.cancel()
            self._end()
            if self._peer is not None:
                await self._node.belonging.accept(self._stream, self._peer)
            elif told:
                await self._linger()
        finally:
            self._end()
            with trio.move_on_after(0, shield=True):
                await self._stream.aclose()

    def _end(self) -> None:
        number, self._number = self._number, None
        unsent, self._unsent = self._unsent, []
        self._node.close_session(self, number, unsent)

    def send(self, number: int, message: Message) -> None:
        """Queue one answer; `flush` is called after the last of several."""
        self._connection.send(number, message)
        if type(message) is Delivered and message.parts:
            self._unsent.append(message)
        self._account()

    def flush(self) -> None:
        """Write what was queued, now as far as the socket takes it."""
        if self._write_now is not None and not self._leaving:
            data = self._connection.data_to_send()
            if not data:
                return
            self._unsent = []
            try:
                written = self._write_now(data)
            except OSError:
                written = 0  # it would block, or is broken: the writer will see
            if written == len(data):
                self._account()
                self._node.sent()
                return
            self._rest = data[written:]
            self._leaving = len(self._rest)
            self._progress = trio.current_time()
            self._account()
        self._wake.set()

    def say_goodbye(self, code: str, reason: str) -> None:
        """Tell the client that this node will close, once it has answered what is under way."""
        if self._connection.hello is not None:
            self._connection.send(0, Goodbye(code, reason))
        self._wake.set()

    def give_up(self) -> None:
        """End the connection at once, whatever is under way."""
        self._scope.cancel()

    @property
    def idle(self) -> bool:
        """Whether every request is answered, and every answer written."""
        return not (self._connection.pending_bytes or self._leaving or self._connection.under_way)

    def stalled(self, now: float) -> float:
        """Return for how many seconds the client has taken nothing of what there is for it."""
        return now - self._progress if self._leaving else 0.0

    # --- reading -----------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Read until the end; return whether what waits to be written should be."""
        connection = self._connection
        while True:
            data = await receive(self._stream, READ_SIZE)
            # Whoever ends all connections then may have come first, when this had been woken already.
            if not data or self._doors.stood_still or self._scope.cancel_called:
                return False
            if self._head is not None:
                data = self._head + data
                if PEER_MAGIC.startswith(data[: len(PEER_MAGIC)]):
                    self._head = data
                    if len(data) < len(PEER_MAGIC):
                        continue
                    self._peer = data[len(PEER_MAGIC) :]
                    return False
                self._head = None
            try:
                requests = connection.receive_data(trio.current_time(), data)
            except ProtocolError as error:
                say_rarely("a client broke the protocol", why=str(error), client=self._client)
                connection.failure_to_send(error)
                return True
            if self._number is None and connection.hello is not None and not connection.closed:
                self._number = self._node.open_session(connection.hello, self)
                self._wake.set()  # another deadline holds now
            self._doors.partly_read(self, connection.partial_bytes)
            await self._hand_over(requests)
            if connection.pending_bytes:
                self.flush()
            if connection.closed:
                return True
            while self._waiting_bytes > OUTBOX_LIMIT:
                self._drained = trio.Event()
                await self._drained.wait()

    async def _hand_over(self, requests: list[tuple[int, Message]]) -> None:
        """Give requests to the broker, all at once if it may have them all."""
        if not requests:
            return
        node, doors, number = self._node, self._doors, self._number
        assert number is not None
        ready: list[tuple[int, Message]] = []
        for request in requests:
            if type(request[1]) in QUESTIONS:
                while not doors.may_ask:
                    node.receive(number, ready)
                    ready = []
                    await doors.room_to_ask()
                doors.asked(number, request[0])
            ready.append(request)
        node.receive(number, ready)

    @property
    def _client(self) -> str:
        return self._connection.hello.client if self._connection.hello is not None else "unknown"

    # --- writing -----------------------------------------------------------------------------------------

    @property
    def _waiting_bytes(self) -> int:
        return self._connection.pending_bytes + self._leaving

    async def _write(self) -> None:
        while True:
            data, self._rest = self._rest, b""
            if not data:
                # From here on part of it may arrive: what is delivered in it stays hidden until its time.
                data = self._connection.data_to_send()
                self._unsent = []
            if not data:
                if self._closing:
                    return None
                # A deadline for every read would cost more than the read.
                self._wake = trio.Event()
                with trio.move_on_at(self._connection.next_deadline()):
                    await self._wake.wait()
                self._connection.tick(trio.current_time())
                if self._connection.closed and not self._connection.pending_bytes:
                    return self._scope.cancel()
                continue
            self._leaving = len(data)
            try:
                await self._write_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return self._scope.cancel()
            except trio.TooSlowError:
                say_rarely("a client that reads nothing was given up", client=self._client)
                return self._scope.cancel()

    async def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(data), WRITE_SIZE):
            self._progress = trio.current_time()
            piece = view[at : at + WRITE_SIZE]
            with trio.fail_after(WRITE_TIMEOUT):
                await self._stream.send_all(piece)
            self._leaving -= len(piece)
            self._account()
        self._node.sent()

    def _account(self) -> None:
        """Say how much waits, and whether this client should get more messages."""
        waiting = self._waiting_bytes
        if waiting <= OUTBOX_LIMIT:
            self._drained.set()
        if self._number is not None and self._blocked != (waiting > OUTBOX_LIMIT):
            self._blocked = not self._blocked
            self._node.block(self._number, blocked=self._blocked)
        self._doors.unwritten(self, waiting)

    async def _linger(self) -> None:
        """Let the client read the last answer: closing while it writes would throw that away."""
        left = LINGER_BYTES
        with trio.move_on_after(LINGER):
            try:
                await self._stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            while left > 0 and (data := await receive(self._stream, READ_SIZE)):
                left -= len(data)
