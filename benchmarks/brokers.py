"""Message brokers for comparison: three nodes each on loopback, every answer after fsync on a majority.

Each `Broker` runs the same work over its own client, and says how long it took: `peers` has those of others,
`trio_broker` dmq's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")
QUEUE = "compare"
START = 60.0
"""Seconds within which a cluster is up."""
WINDOW = 4096
"""Sends that a stream has under way, where the client does not batch by itself."""
FETCH = 256
"""Messages that a drain asks for at once, where the client takes one number for all."""


def cpu_seconds(pids: list[int]) -> float:
    """Return the processor time that processes have used, their own and the system's for them."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident_mib(pids: list[int]) -> float:
    """Return the resident memory of processes."""
    total = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return total / 1024


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Broker:
    """Three nodes, and a client of them.

    Arguments:
        directory: of its own, for data and logs.
    """

    name = ""
    first_sends = 0
    """Messages that `singles` sends before it begins to measure."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pids: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        directory.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def missing() -> str:
        """Return what is not installed of what it needs, "" if nothing."""
        return ""

    # --- processes -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start three nodes and make the queue."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the nodes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawn(self, command: list[str | Path], **options: Any) -> None:
        with (self.directory / "log").open("ab") as log:
            options = {"stdout": log, "stderr": log, **options}
            process = subprocess.Popen(command, **options)
        self._processes.append(process)
        self.pids.append(process.pid)

    # --- work ----------------------------------------------------------------------------------------

    def singles(self, workers: int, seconds: float, body: bytes) -> tuple[float, list[float]]:
        """Send one by one, each of `workers` at a time; return messages per second and how long each took."""
        return asyncio.run(self._connected(lambda: closed_loop(workers, seconds, lambda: self.send(body))))

    def stream(self, count: int, body: bytes) -> float:
        """Send `count` messages as fast as one client can; return how many per second."""
        return asyncio.run(self._connected(lambda: self.send_stream(count, body)))

    def drain(self, count: int) -> float:
        """Receive and ack `count` messages as fast as one client can; return how many per second."""
        return asyncio.run(self._connected(lambda: self.receive_all(count)))

    def delivery(self, seconds: float, body: bytes) -> list[float]:
        """Send to a receiver that waits, one by one; return the seconds from send to receipt of each."""
        return asyncio.run(self._connected(lambda: self.deliver(seconds, body)))

    # --- one client: what each peer does in its own way ------------------------------------------------

    async def connect(self) -> None:
        """Connect the client."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Disconnect it."""
        raise NotImplementedError

    async def send(self, body: bytes) -> None:
        """Send one message; return once it is stored."""
        raise NotImplementedError

    async def send_stream(self, count: int, body: bytes) -> float:
        """Send `count`; return how many per second were stored."""
        raise NotImplementedError

    async def receive_all(self, count: int) -> float:
        """Receive and ack `count`; return how many per second."""
        raise NotImplementedError

    async def deliver(self, seconds: float, body: bytes) -> list[float]:
        """Send to a receiver that waits."""
        raise NotImplementedError

    async def _connected(self, work: Callable[[], Awaitable[Any]]) -> Any:
        await self.connect()
        try:
            return await work()
        finally:
            await self.disconnect()


async def closed_loop(
    workers: int, seconds: float, one: Callable[[], Awaitable[None]]
) -> tuple[float, list[float]]:
    """Run `one` again and again in `workers` tasks; return the rate, and how long each took."""
    taken: list[float] = []
    begun = time.perf_counter()

    async def work() -> None:
        while (start := time.perf_counter()) < begun + seconds:
            await one()
            taken.append(time.perf_counter() - start)

    await asyncio.gather(*(work() for _ in range(workers)))
    return len(taken) / (time.perf_counter() - begun), taken


class Pinged:
    """Sends one message after the other to a receiver that waits, and takes the time of each.

    Arguments:
        size: bytes of a message.
    """

    def __init__(self, size: int) -> None:
        self.taken: list[float] = []
        self._rest = bytes(max(0, size - 8))
        self._number = 0
        self._sent = 0.0
        self._came = asyncio.Event()

    def came(self, body: bytes) -> None:
        """The receiver has a message; one that was sent before is not counted."""
        if body[:8] == self._number.to_bytes(8, "big") and not self._came.is_set():
            self.taken.append(time.perf_counter() - self._sent)
            self._came.set()

    async def run(self, seconds: float, send: Callable[[bytes], Awaitable[None]]) -> list[float]:
        """Send for a while."""
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            self._number += 1
            self._came.clear()
            self._sent = now
            sending = asyncio.ensure_future(send(self._number.to_bytes(8, "big") + self._rest))
            await self._came.wait()
            await sending
        return self.taken


async def windowed(count: int, one: Callable[[], Awaitable[None]]) -> float:
    """Run `one` `count` times, WINDOW of them at once; return the rate."""
    free, begun = asyncio.Semaphore(WINDOW), time.perf_counter()

    async def go() -> None:
        try:
            await one()
        finally:
            free.release()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            await free.acquire()
            tasks.create_task(go())
    return count / (time.perf_counter() - begun)


def beside(program: str) -> str | None:
    """Find a program beside this Python, or anywhere else."""
    return shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
