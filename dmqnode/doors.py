"""A node's doors: lets connections in, and keeps what all of them hold together within bounds."""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from typing import TYPE_CHECKING

import trio

from dmqnode import wire
from dmqnode.buffers import Buffers
from dmqnode.clock import Now
from dmqnode.logs import say, say_rarely
from dmqnode.messages import Failed
from dmqnode.session import ConnectionSession

if TYPE_CHECKING:
    from dmqnode.node import Node

MAX_QUESTIONS = 16
"""Long answers from the disk that are made at once; who asks more waits."""
FOR_PEERS = 64
"""Connections that other nodes may make beyond the limit of those of clients."""
MAX_REFUSALS = 64
"""Connections beyond the limit that are told so at once; the others are just closed."""
STALL = 2.0
"""Seconds after which a client that takes nothing is given up when others need its share of memory."""
STALE = 30.0
"""Seconds for which a process may stand still before what came meanwhile is too old to be done."""
MAX_BACKLOG = 1 << 16
"""Connections that the system makes at most before they are let in."""
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Door = trio.abc.Listener[trio.abc.HalfCloseableStream]


class Doors:
    """The connections of a node.

    Arguments:
        node: that serves them.
        listeners: as from `trio.open_tcp_listeners`; closed by `close`.
    """

    def __init__(self, node: Node, listeners: list[Door]) -> None:
        self._node = node
        self._listeners = listeners
        self.sessions: set[ConnectionSession] = set()
        self._refusing = 0
        share = max(node.config.memory_limit // 4, 4 * node.config.max_frame)
        self._coming: Buffers[ConnectionSession] = Buffers(share)
        """Parts of requests."""
        self._going: Buffers[ConnectionSession] = Buffers(share)
        """Answers that are not written."""
        self._questions: set[tuple[int, int]] = set()
        self._room = trio.Event()
        self._beat = self._alive = math.inf
        self._standstills = 0
        self._accepting: dict[Door, trio.CancelScope] = {}
        """What waits for the next connection at each listener."""

    async def run(self) -> None:
        """Serve whoever connects.  Cancelling ends all connections at once."""
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(self._accept, listener, nursery)

    async def close(self) -> None:
        """Let nobody in any more."""
        for listener in self._listeners:
            await listener.aclose()

    # --- standing still --------------------------------------------------------------------------------

    def beat(self, now: Now) -> bool:
        """To be called once a second: after the process stood still for long, end all connections.

        What came on them meanwhile, clients have long repeated elsewhere, and nobody remembers that any more.
        Return whether this was so.
        """
        self._beat = now.run
        alive, self._alive = self._alive, now.run + now.asleep
        if self._alive - alive <= STALE:
            return False
        say("this process stood still; what came meanwhile is not done", seconds=round(self._alive - alive))
        self._standstills += 1
        for session in list(self.sessions):
            session.give_up()
        for listener in self._listeners:
            hang_up_on_backlog(listener)
        for accepting in self._accepting.values():
            accepting.cancel()
        return True

    @property
    def stood_still(self) -> bool:
        """Whether the process stood still for long, until just now."""
        return trio.current_time() - self._beat > STALE

    # --- letting in ------------------------------------------------------------------------------------

    async def _accept(self, listener: Door, nursery: trio.Nursery) -> None:
        while True:
            known, stream = self._standstills, None
            with trio.CancelScope() as self._accepting[listener]:  # `beat` ends it
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        raise
                    say_rarely("cannot accept a connection", level=logging.ERROR, why=error.strerror)
                    await trio.sleep(0.1)
            if stream is not None:
                nursery.start_soon(self._serve, stream, known)

    async def _serve(self, stream: trio.abc.HalfCloseableStream, known: int) -> None:
        around = self._node.broker.surroundings
        # It may have come out of the backlog before `beat` looked there.
        if self.stood_still or known != self._standstills:
            await trio.aclose_forcefully(stream)
            return
        if len(self.sessions) >= self._node.config.max_connections + self._reserve:
            await self._refuse(stream)
            return
        session = ConnectionSession(self._node, self, stream)
        self.sessions.add(session)
        around.connections = len(self.sessions)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)
            around.connections = len(self.sessions)

    @property
    def _reserve(self) -> int:
        """Connections beyond the limit that are let in, for other nodes; clients among them are refused."""
        return 0 if self._node.broker.clustering is None else FOR_PEERS

    @property
    def full(self) -> Failed | None:
        """Return why one more client is refused, None if it is not."""
        limit = self._node.config.max_connections
        if len(self.sessions) <= limit:
            return None
        return Failed("limit", _too_many(limit), True)

    async def _refuse(self, stream: trio.abc.HalfCloseableStream) -> None:
        limit = self._node.config.max_connections
        say_rarely("a connection was refused: there are too many", limit=limit)
        why = _too_many(limit)
        self._refusing += 1
        try:
            async with stream:
                if self._refusing <= MAX_REFUSALS:
                    with trio.move_on_after(1):
                        await stream.send_all(b"".join(wire.encode(0, Failed("limit", why, True))))
                        await stream.send_eof()
                        while await stream.receive_some(4096):
                            pass
        except trio.BrokenResourceError:
            return
        finally:
            self._refusing -= 1

    # --- questions -------------------------------------------------------------------------------------

    @property
    def may_ask(self) -> bool:
        """Whether one more question may be handed over."""
        return len(self._questions) < MAX_QUESTIONS and not self._node.broker.deliveries.crowded

    async def room_to_ask(self) -> None:
        """Wait until that may have changed."""
        if self._room.is_set():
            self._room = trio.Event()
        await self._room.wait()

    def asked(self, session: int, number: int) -> None:
        """A question is handed over."""
        self._questions.add((session, number))

    def answered(self, session: int, number: int) -> None:
        """A request is answered."""
        if self._questions and (session, number) in self._questions:
            self._questions.discard((session, number))
            self._room.set()

    # --- memory ----------------------------------------------------------------------------------------

    def partly_read(self, session: ConnectionSession, size: int) -> None:
        """So much of a request has come; when all together is too much, the longest goes."""
        self._coming.set(session, size)
        self._shed(self._coming)

    def unwritten(self, session: ConnectionSession, size: int) -> None:
        """So much of its answers waits; when all together is much, deliveries wait, and at last it goes."""
        self._going.set(session, size)
        self._shed(self._going)
        total, limit = self._going.total, self._going.limit
        if not self._node.broker.deliveries.crowded:
            self._node.broker.deliveries.crowded = total > limit // 2
        elif total < limit // 4:
            self._node.broker.deliveries.crowded = False
            self._room.set()
            self._node.serve_waiting()

    def shed_stalled(self) -> None:
        """To be called once a second: nobody who does not read keeps others waiting."""
        if self._node.broker.deliveries.crowded:
            for session in self._going.owners:
                if session.stalled(trio.current_time()) > STALL:
                    say_rarely("a connection was given up: its client does not read")
                    session.give_up()

    @staticmethod
    def _shed(buffers: Buffers[ConnectionSession]) -> None:
        while buffers.overflows:
            session = buffers.largest()
            buffers.set(session, 0)
            say_rarely("a connection was given up: it held too much memory")
            session.give_up()


def hang_up_on_backlog(listener: Door) -> None:
    """Close the connections that the system has made, and that nobody has let in yet."""
    if not isinstance(listener, trio.SocketListener) or listener.socket.fileno() < 0:
        return
    try:
        door = socket.socket(fileno=os.dup(listener.socket.fileno()))
    except OSError as error:  # no descriptor is left: whoever waits there is let in
        say_rarely("cannot hang up on who had connected", level=logging.ERROR, why=error.strerror)
        return
    with door:
        door.setblocking(False)
        for _ in range(MAX_BACKLOG):
            try:
                connected, _ = door.accept()
            except ConnectionError:
                continue  # that one has gone by itself
            except OSError:
                return
            connected.close()


def _too_many(limit: int) -> str:
    return f"this node has {limit} connections, its limit; close some, ask another node, or again later"
