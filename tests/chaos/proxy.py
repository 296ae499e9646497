"""Stands between every pair of nodes, and between clients and nodes, and spoils what passes.

    node a, dials from 127.x.y.a ──> outside address of b ──(link a→b)──> inside address of b
    clients, from any other address ──> outside address of b ──(link client→b)──> inside address of b

Nodes advertise their outside address and bind what they dial with to their inside address, so the proxy knows
both ends of a connection; of a datagram it knows them anyhow, and hands it on from the sender's own outside
address.  A TCP link that is cut loses nothing that was sent, and tells nobody: bytes wait, as they do where
segments are sent again and again, and come when it is mended.  A lost segment shows as the time until it is
sent again.  Datagrams are lost, doubled and overtaken for good.

Run as a process of its own: `python -m tests.chaos.proxy`, a line of JSON each on stdin, and an answer
for each: {"ends": {name: [outside, inside]}} first, then [{"from": a, "to": b, "tcp": {…}, "udp": {…}}, …].
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import trio

CLIENT = "client"
CHUNK = 1 << 16
SEGMENT = 1460
SENT_AGAIN = 0.2
"""Seconds until TCP sends a lost segment again."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one direction of a link suffers.  Seconds, and probabilities per segment or datagram."""

    cut: bool = False
    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


FINE = Trouble()


class Link:
    """One direction between two ends, for TCP or UDP."""

    def __init__(self) -> None:
        self.trouble = FINE
        self._changed = trio.Event()

    def set(self, trouble: Trouble) -> None:
        """Change what it suffers."""
        self.trouble = trouble
        self._changed.set()
        self._changed = trio.Event()

    async def open(self) -> None:
        """Wait until it is not cut."""
        while self.trouble.cut:
            await self._changed.wait()

    def pause(self, rng: random.Random) -> float:
        """Return how long something takes to pass."""
        trouble = self.trouble
        return max(0.0, trouble.delay + trouble.jitter * rng.uniform(-1, 1))

    def sent_again(self, size: int, rng: random.Random) -> float:
        """Return how long it takes until what TCP lost of so many bytes has come after all.

        Segments that are lost together are sent again together, and some of them are lost once more.
        """
        loss, pause = self.trouble.loss, 0.0
        lost = _lost(-(-size // SEGMENT), loss, rng)
        while lost:
            pause += SENT_AGAIN
            lost = _lost(lost, loss, rng)
        return pause


def _lost(segments: int, loss: float, rng: random.Random) -> int:
    return sum(rng.random() < loss for _ in range(segments)) if loss else 0


class Proxy:
    """All links.

    Arguments:
        ends: per name its outside and its inside address, (host, port) each.
    """

    def __init__(self, ends: dict[str, tuple[tuple[str, int], tuple[str, int]]]) -> None:
        self._ends = ends
        self._names = {inside[0]: name for name, (_, inside) in ends.items()}
        self._links: dict[tuple[str, str, str], Link] = {}
        self._udp: dict[str, trio.socket.SocketType] = {}
        self._rng = random.Random(1)

    def link(self, kind: str, source: str, target: str) -> Link:
        """Return a direction; kind is tcp or udp."""
        return self._links.setdefault((kind, source, target), Link())

    def name(self, host: str) -> str:
        """Return who calls from a host."""
        return self._names.get(host, CLIENT)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        with ExitStack() as sockets:
            await self._run(sockets, task_status)

    async def _run(self, sockets: ExitStack, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            for name, (outside, inside) in self._ends.items():
                listeners = await trio.open_tcp_listeners(outside[1], host=outside[0], backlog=512)

                async def connected(stream: trio.SocketStream, name: str = name) -> None:
                    await self._join(stream, name)

                nursery.start_soon(trio.serve_listeners, connected, listeners)
                udp = sockets.enter_context(trio.socket.socket(type=trio.socket.SOCK_DGRAM))
                self._udp[name] = udp
                await udp.bind(outside)
                nursery.start_soon(self._datagrams, nursery, name, udp, inside)
            task_status.started()

    # --- TCP -----------------------------------------------------------------------------------------

    async def _join(self, caller: trio.SocketStream, name: str) -> None:
        source = self.name(caller.socket.getpeername()[0])
        there, back = self.link("tcp", source, name), self.link("tcp", name, source)
        async with caller:
            # Without both directions there is no connection; to the caller it is one that never answers.
            await there.open()
            await back.open()
            try:
                called = await trio.open_tcp_stream(*self._ends[name][1])
            except OSError:
                return
            async with called, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, there, caller, called, nursery.cancel_scope)
                await self._pass(back, called, caller, nursery.cancel_scope)

    async def _pass(
        self, link: Link, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        """Hand on what comes, until either side is gone."""
        try:
            while data := await source.receive_some(CHUNK):
                await link.open()
                pause = link.pause(self._rng) + link.sent_again(len(data), self._rng)
                if pause:
                    await trio.sleep(pause)
                await link.open()
                await target.send_all(data)
            await link.open()
            await target.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await link.open()
            scope.cancel()

    # --- UDP -----------------------------------------------------------------------------------------

    async def _datagrams(
        self, nursery: trio.Nursery, name: str, udp: trio.socket.SocketType, inside: tuple[str, int]
    ) -> None:
        while True:
            try:
                data, sender = await udp.recvfrom(CHUNK)
            except OSError:
                continue  # an earlier one reached a port where nobody listens
            source = self.name(sender[0])
            link = self.link("udp", source, name)
            trouble, rng = link.trouble, self._rng
            if trouble.cut or source not in self._udp or rng.random() < trouble.loss:
                continue
            for _ in range(2 if rng.random() < trouble.duplicate else 1):
                pause = link.pause(rng) + (rng.uniform(0, 0.3) if rng.random() < trouble.reorder else 0.0)
                if not pause:
                    await self._deliver(source, data, inside)
                else:
                    nursery.start_soon(self._later, pause, source, data, inside)

    async def _later(self, pause: float, source: str, data: bytes, inside: tuple[str, int]) -> None:
        await trio.sleep(pause)
        await self._deliver(source, data, inside)

    async def _deliver(self, source: str, data: bytes, inside: tuple[str, int]) -> None:
        try:
            await self._udp[source].sendto(data, inside)
        except OSError:
            pass  # lost, as others


def take(proxy: Proxy, order: dict[str, Any]) -> None:
    """Do what an order says: change both kinds of one direction; a kind that it leaves out is mended."""
    for kind in ("tcp", "udp"):
        proxy.link(kind, order["from"], order["to"]).set(replace(FINE, **order.get(kind, {})))


async def _lines() -> Callable[[], Awaitable[bytes]]:
    source = trio.lowlevel.FdStream(0)
    rest = b""

    async def line() -> bytes:
        nonlocal rest
        while b"\n" not in rest:
            data = await source.receive_some(CHUNK)
            if not data:
                return b""
            rest += bytes(data)
        found, _, rest = rest.partition(b"\n")
        return found

    return line


async def main() -> None:
    """Serve until stdin ends."""
    line = await _lines()
    ends = json.loads(await line())["ends"]
    proxy = Proxy({name: (tuple(outside), tuple(inside)) for name, (outside, inside) in ends.items()})
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        print("ready", flush=True)
        while data := await line():
            orders = json.loads(data)
            for order in orders:
                take(proxy, order)
            print("done", flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
    sys.exit(0)
