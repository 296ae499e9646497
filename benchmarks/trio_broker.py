"""dmq among the brokers that are compared: three nodes as a user starts them, and its own client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import repeat
from pathlib import Path
from typing import Any

import trio
from brokers import QUEUE, START, Broker

import dmqnode
from dmqnode.blocking import connect_sync
from dmqnode.errors import DMQError

ROOT = Path(__file__).resolve().parent.parent
DRAIN = 4000
"""Messages that a drain asks for at once."""


class Dmq(Broker):
    """dmq: three copies, two of them synced before every answer.

    Arguments:
        nodes: how many.
        partitions: of the queue.
    """

    name = "dmq"
    first_sends = 1
    program = ("-m", "cli.main")
    """What Python is given to be `dmq`."""

    def __init__(self, directory: Path, nodes: int = 3, partitions: int = 1) -> None:
        super().__init__(directory)
        self._nodes = nodes
        self._partitions = partitions
        self.addresses: list[str] = []

    def start(self) -> None:
        for number in range(self._nodes):
            self.start_node(number)
        with connect_sync(*self.addresses) as client:
            until = time.monotonic() + START
            while True:
                found = client.status().get("overview", {})
                if self._nodes == 1 or (found.get("healthy") and found.get("alive") == self._nodes):
                    break
                if time.monotonic() > until:
                    raise SystemExit(f"the nodes did not become a cluster: {found}")
                time.sleep(0.05)
            client.create_queue(QUEUE, partitions=self._partitions)
            client.ack(self._first(client))

    def _first(self, client: Any) -> Any:
        """Send and receive until somebody leads every partition."""
        for _ in range(20 * self._partitions):
            client.send(QUEUE, b"first")
        found: list[Any] = []
        while len(found) < 20 * self._partitions:
            found += client.receive(QUEUE, max_messages=1000, wait=5)
        return found

    def start_node(self, number: int) -> None:
        """Start one node, and wait until it is ready."""
        join = ["--join", self.addresses[0]] if self.addresses else []
        where = [
            "--data",
            str(self.directory / str(number)),
            "--listen",
            "127.0.0.1:0",
            "--name",
            f"n{number}",
        ]
        self._spawn(
            [sys.executable, *self.program, "node", "start", *where, *join],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"},
        )
        out = self._processes[-1].stdout
        assert out is not None
        ready = out.readline().decode()
        if not ready.startswith("ready "):
            raise SystemExit(f"a node did not start; see {self.directory / 'log'}")
        self.addresses.append(ready.split()[2])

    # --- work ----------------------------------------------------------------------------------------

    def singles(self, workers: int, seconds: float, body: bytes) -> tuple[float, list[float]]:
        async def work(client: dmqnode.Client) -> tuple[float, list[float]]:
            taken: list[float] = []
            await client.send(QUEUE, body)  # connects
            begun = time.perf_counter()

            async def one() -> None:
                while (start := time.perf_counter()) < begun + seconds:
                    await client.send(QUEUE, body)
                    taken.append(time.perf_counter() - start)

            async with trio.open_nursery() as nursery:
                for _ in range(workers):
                    nursery.start_soon(one)
            return len(taken) / (time.perf_counter() - begun), taken

        return self.run(work)

    def stream(self, count: int, body: bytes, clients: int = 1) -> float:
        async def send(client: dmqnode.Client, share: int) -> None:
            async for _ in client.send_stream(QUEUE, repeat(body, share)):
                pass

        async def work(connected: list[dmqnode.Client]) -> float:
            begun = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for number, client in enumerate(connected):
                    nursery.start_soon(send, client, (count + number) // clients)
            return count / (time.perf_counter() - begun)

        return self._run_several(clients, work)

    def drain(self, count: int, clients: int = 1) -> float:
        async def work(connected: list[dmqnode.Client]) -> float:
            begun, got = time.perf_counter(), 0

            async def receive(client: dmqnode.Client) -> None:
                nonlocal got
                while got < count:
                    messages = await client.receive(QUEUE, max_messages=min(DRAIN, count - got), wait=10)
                    if not messages:
                        raise SystemExit(f"{count - got} messages did not come")
                    got += len(messages)
                    acks.start_soon(client.ack, messages)
                receivers.cancel_scope.cancel()

            async with trio.open_nursery() as acks, trio.open_nursery() as receivers:
                for client in connected:
                    receivers.start_soon(receive, client)
            return got / (time.perf_counter() - begun)

        return self._run_several(clients, work)

    def delivery(self, seconds: float, body: bytes) -> list[float]:
        async def work(client: dmqnode.Client) -> list[float]:
            taken: list[float] = []
            sent, came, expected = 0.0, trio.Event(), b""

            async def receive() -> None:
                async with trio.open_nursery() as acks:
                    while True:
                        for message in await client.receive(QUEUE, wait=10):
                            if message.body == expected:
                                taken.append(time.perf_counter() - sent)
                                came.set()
                            acks.start_soon(message.ack)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.sleep(0.2)
                until, number = time.perf_counter() + seconds, 0
                while time.perf_counter() < until:
                    number += 1
                    came, expected = trio.Event(), number.to_bytes(8, "big") + bytes(max(0, len(body) - 8))
                    sent = time.perf_counter()
                    async with trio.open_nursery() as both:
                        both.start_soon(client.send, QUEUE, expected)
                        await came.wait()
                await trio.sleep(0.2)
                nursery.cancel_scope.cancel()
            return taken

        return self.run(work)

    def run(self, work: Callable[[dmqnode.Client], Awaitable[Any]]) -> Any:
        """Run `work` with a client of all nodes."""

        return self._run_several(1, lambda connected: work(connected[0]))

    def _run_several(self, clients: int, work: Callable[[list[dmqnode.Client]], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with AsyncExitStack() as stack:
                found = [
                    await stack.enter_async_context(dmqnode.connect(*self.addresses)) for _ in range(clients)
                ]
                for client in found:
                    await client.queues()  # connects
                return await work(found)

        try:
            return trio.run(connected)
        except* DMQError as errors:
            raise SystemExit(f"dmq: {errors.exceptions[0]}") from None
