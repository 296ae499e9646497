"""Datagrams on a UDP socket, and what the driver needs to have of any other way to move them."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from gossip.errors import GossipError

OUTBOX_LIMIT = 512
"""Datagrams that wait for the socket or for a name to be resolved; further ones are dropped and counted."""
RESOLVE_TIMEOUT = 1.0
RESOLVED_FOR = 30.0
"""Seconds for which the answer to a host name is kept."""
NAMES_LIMIT = 1000
PACKET_SIZE = 65536

ExchangeStates = Callable[[str, bytes], Awaitable[bytes]]
"""Takes this node's state to an address over TCP and returns the answer.

Errors: OSError, trio.BrokenResourceError, trio.TooSlowError or Unreachable when that did not work out.
"""


class Unreachable(GossipError):
    """No exchange took place; `ExchangeStates` may raise it for whatever reason."""


class Datagrams(Protocol):
    """Moves datagrams between addresses HOST:PORT; they may get lost."""

    async def run(self) -> None:
        """Do whatever sending needs, until cancelled."""

    def send(self, address: str, data: bytes) -> None:
        """Send one, or drop it; never waits."""

    async def receive(self) -> tuple[str, bytes]:
        """Return the next that came, and its sender."""
        ...  # pragma: no cover


class UdpTransport:
    """Datagrams through one UDP socket, which it closes when `run` ends.

    Arguments:
        udp: bound; made by `open_udp`.
    """

    def __init__(self, udp: trio.socket.SocketType) -> None:
        self._socket = udp
        self._outbox, self._inbox = trio.open_memory_channel[tuple[str, bytes]](OUTBOX_LIMIT)
        self._names: dict[str, tuple[float, tuple[object, ...] | None]] = {}
        self.dropped = 0
        """Datagrams that were not sent: too many waited, or the address could not be used."""

    async def run(self) -> None:
        """Send what is queued, until cancelled."""
        with self._socket:
            async for address, data in self._inbox:
                target = await self._resolve(address)
                if target is None:
                    self.dropped += 1
                    continue
                try:
                    await self._socket.sendto(data, target)
                except OSError:
                    # Not reachable, or full: to the core this is a lost packet like any other.
                    self.dropped += 1

    def send(self, address: str, data: bytes) -> None:
        """Queue one datagram; drop it where too many wait."""
        try:
            self._outbox.send_nowait((address, data))
        except trio.WouldBlock:
            self.dropped += 1

    async def receive(self) -> tuple[str, bytes]:
        """Return the next datagram and its sender's address."""
        while True:
            try:
                data, sender = await self._socket.recvfrom(PACKET_SIZE)
            except ConnectionError:
                continue  # An earlier packet reached a port where nobody listens.
            host, port = sender[:2]
            return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), data

    async def _resolve(self, address: str) -> tuple[object, ...] | None:
        """Return the socket address of HOST:PORT, None where there is none; asks for a name every 30 s."""
        now = trio.current_time()
        until, target = self._names.get(address, (-math.inf, None))
        if now < until:
            return target
        host, _, port = address.rpartition(":")
        target = None
        with trio.move_on_after(RESOLVE_TIMEOUT):
            try:
                found = await trio.socket.getaddrinfo(
                    host.removeprefix("[").removesuffix("]"),
                    port,
                    family=self._socket.family,
                    type=socket.SOCK_DGRAM,
                )
                target = found[0][4]
            except (OSError, UnicodeError, ValueError):
                target = None
        if len(self._names) >= NAMES_LIMIT:
            self._names.clear()
        self._names[address] = (trio.current_time() + RESOLVED_FOR, target)
        return target


async def open_udp(host: str, port: int) -> UdpTransport:
    """Bind a UDP socket.

    Errors: OSError.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    udp = trio.socket.socket(family, kind, protocol)
    try:
        await udp.bind(address)
    except BaseException:
        udp.close()
        raise
    return UdpTransport(udp)
