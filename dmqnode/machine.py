"""What a node takes from the machine that it runs on: clocks, chance, threads, and ways to other nodes.

Everything of that kind comes through here, so that a simulation can be the machine: with a clock that stands
still between two events, chance from one seed, threads that are none, and a network that loses things.
Listeners and the store are handed to the node; the running time is trio's.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from dmqnode.clock import Now
from dmqnode.resources import resident_memory
from gossip.transport import Datagrams, open_udp

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Machine:
    """The machine of this process.

    `stopwatch` gives seconds to measure writes by, which decides who makes them (`storage.committer`).
    """

    stopwatch: Callable[[], float] | None = None

    def now(self) -> Now:
        """Return the time, as all three clocks have it (L4)."""
        run = trio.current_time()
        wall, beyond = divmod(time.time_ns(), 1_000_000)
        return Now(run, wall, time.clock_gettime(_BOOT) - run, beyond / 1e9)

    def chance(self, size: int) -> bytes:
        """Return so many random bytes that nobody can guess."""
        return os.urandom(size)

    def random(self) -> random.Random:
        """Return a new source of chance."""
        return random.Random(self.chance(8))

    def memory(self) -> int:
        """Return how many bytes this process has in memory."""
        return resident_memory()

    async def in_thread(
        self,
        act: Callable[[*Ts], T],
        *args: *Ts,
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        """Call what blocks, in a worker thread; cancelling waits for its end."""
        return await trio.to_thread.run_sync(act, *args, limiter=limiter)

    def writer(self, stream: trio.abc.HalfCloseableStream) -> Callable[[bytes], int] | None:
        """Return what writes to a stream at once, as much as it takes without waiting; None: nothing can.

        What is returned may raise OSError.
        """
        if not isinstance(stream, trio.SocketStream):
            return None
        ours = stream.socket  # which knows when it is closed; its number may then be another's
        return lambda data: os.write(ours.fileno(), data)

    async def dial(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Open a connection.  Errors: OSError."""
        try:
            return await trio.open_tcp_stream(host, port)
        except UnicodeError:  # of another member, or an older release: nothing to end this node for
            raise socket.gaierror(socket.EAI_NONAME, "this is no host name") from None

    async def open_datagrams(self, host: str, port: int) -> Datagrams:
        """Bind a UDP socket.  Errors: OSError."""
        return await open_udp(host, port)


MACHINE = Machine()
MACHINE.stopwatch = time.perf_counter
