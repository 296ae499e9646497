"""What a benchmark does to a queue: one at a time, many at once, streams, and all together."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from struct import Struct

import trio

import dmqnode
from cli.bench_figures import Latencies, Measured, cpu_seconds, resident_bytes
from dmqnode.errors import DMQError, Unavailable

PIPELINE = 4
"""Requests of one producer that are under way at once, where it streams."""
MANY = 64
WAIT = 10.0
"""Seconds that a consumer waits for messages that are on their way."""
STAMP = Struct("<d")
"""When a message was sent, at the start of its body."""


@dataclass
class Plan:
    """What to measure.

    Arguments:
        connect: makes a client.
        queue: there, and empty.
        size: bytes of a body.
        batch: messages of a request, at most.
        producers: clients that send, where several may.
        consumers: clients that receive, where several may.
        messages: how many each scenario moves, or None where `duration` decides.
        duration: seconds that a scenario sends.
        pids: processes whose work is counted.
    """

    connect: Callable[[], dmqnode.Client]
    queue: str
    size: int
    batch: int
    producers: int
    consumers: int
    messages: int | None
    duration: float
    pids: list[int] = field(default_factory=list)


async def send_one(plan: Plan) -> Measured:
    """One message under way at a time."""
    return await _single(plan, "send1", 1)


async def send_many(plan: Plan) -> Measured:
    """64 messages under way over one client, each sent by itself."""
    return await _single(plan, "send64", MANY)


async def _single(plan: Plan, name: str, tasks: int) -> Measured:
    latencies, quota = Latencies(), _Quota(plan)
    body = os.urandom(plan.size)
    async with plan.connect() as client, _measuring(plan, name, "message", latencies) as found:

        async def send() -> None:
            queue, clock, add = plan.queue, time.perf_counter, latencies.add
            for _ in quota.pieces(1):
                begun = clock()
                await client.send(queue, body)
                add(clock() - begun)

        await together([send] * tasks)
        found.messages = quota.taken
    found.batch = 1
    return found


async def stream(plan: Plan) -> Measured:
    """Producers that send batch after batch without waiting for each answer."""
    latencies, quota = Latencies(), _Quota(plan)
    body = os.urandom(plan.size)
    async with (
        _clients(plan, plan.producers) as clients,
        _measuring(plan, "stream", "request", latencies) as found,
    ):
        await together([_producer(plan, c, quota, latencies, lambda: body) for c in clients])
        found.messages = quota.taken
    return found


def _producer(
    plan: Plan, client: dmqnode.Client, quota: _Quota, latencies: Latencies | None, body: Callable[[], bytes]
) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        for count in quota.pieces(plan.batch):
            begun = time.perf_counter()
            await client.send_many(plan.queue, [body()] * count)
            if latencies is not None:
                latencies.add(time.perf_counter() - begun)

    return lambda: together([send] * PIPELINE)


async def drain(plan: Plan) -> Measured:
    """Consumers that take everything and ack it; what they take is sent before, and not measured."""
    await fill(plan)
    latencies, left = Latencies(), _Left(await ready(plan))
    async with (
        _clients(plan, plan.consumers) as clients,
        _measuring(plan, "drain", "ack", latencies) as found,
    ):
        left.scopes = [trio.CancelScope() for _ in clients]
        await together(
            [_consumer(plan, c, left, scope, latencies, None) for c, scope in zip(clients, left.scopes)]
        )
        found.messages = left.taken
    return found


async def both(plan: Plan) -> Measured:
    """Producers and consumers at once; the latency is from before the send until the message is there."""
    latencies, quota, left = Latencies(), _Quota(plan), _Left(None)
    rest = bytes(max(0, plan.size - STAMP.size))

    def body() -> bytes:
        return (STAMP.pack(time.perf_counter()) + rest)[: plan.size]

    async with _clients(plan, plan.producers + plan.consumers) as clients:
        producers, consumers = clients[: plan.producers], clients[plan.producers :]
        left.scopes = [trio.CancelScope() for _ in consumers]

        async def produce() -> None:
            await together([_producer(plan, c, quota, None, body) for c in producers])
            left.expect(quota.taken)

        async with _measuring(plan, "both", "delivery", latencies) as found:
            await together(
                [produce]
                + [_consumer(plan, c, left, s, None, latencies) for c, s in zip(consumers, left.scopes)]
            )
            found.messages = left.taken
    return found


class _Left:
    """What consumers have still to take; once that is all, those that wait for more are released.

    Arguments:
        count: of messages; None while nobody knows.
    """

    def __init__(self, count: int | None) -> None:
        self._count = count
        self.taken = 0
        self.scopes: list[trio.CancelScope] = []

    @property
    def none(self) -> bool:
        return self._count is not None and self.taken >= self._count

    def expect(self, count: int) -> None:
        """Now it is known how many there are."""
        self._count = count
        self.take(0)

    def take(self, count: int) -> None:
        """So many are acked."""
        self.taken += count
        if self.none:
            for scope in self.scopes:
                scope.cancel()


def _consumer(
    plan: Plan,
    client: dmqnode.Client,
    left: _Left,
    scope: trio.CancelScope,
    acks: Latencies | None,
    deliveries: Latencies | None,
) -> Callable[[], Awaitable[None]]:
    async def settle(messages: list[dmqnode.Message]) -> None:
        begun = time.perf_counter()
        await client.ack(messages)
        if acks is not None:
            acks.add(time.perf_counter() - begun)
        left.take(len(messages))

    async def receive() -> None:
        if left.none:
            return
        taking = client.receive_stream(plan.queue, max_messages=plan.batch, wait=WAIT)
        async for messages in taking:
            if not messages:
                raise Unavailable("a message that was sent did not come within 10 s")
            if deliveries is not None and plan.size >= STAMP.size:
                (sent,) = STAMP.unpack_from(messages[0].body)
                deliveries.add(time.perf_counter() - sent)
            await settle(messages)

    async def run() -> None:
        with scope:
            await receive()

    return run


SCENARIOS: dict[str, Callable[[Plan], Awaitable[Measured]]] = {
    "send1": send_one,
    "send64": send_many,
    "stream": stream,
    "drain": drain,
    "both": both,
}
"""All of them, in the order in which they are run: `drain` empties what those before it have sent."""


# --- what they share -------------------------------------------------------------------------------------


class _Quota:
    """How much is still to be sent, by number or by time; the time begins when the first piece is taken."""

    def __init__(self, plan: Plan) -> None:
        self._most = plan.messages
        self._duration = plan.duration
        self._until: float | None = None
        self.taken = 0

    def pieces(self, most: int) -> Iterator[int]:
        """Take `most` or what is left of it, until nothing is."""
        if self._until is None:
            self._until = time.perf_counter() + self._duration
        until = self._until
        while True:
            if self._most is None:
                count = most if time.perf_counter() < until else 0
            else:
                count = min(most, self._most - self.taken)
            if count <= 0:
                return
            self.taken += count
            yield count


async def ready(plan: Plan) -> int:
    """Return how many messages the queue has."""
    async with plan.connect() as client:
        return int((await client.queue(plan.queue))["ready"])


async def fill(plan: Plan) -> None:
    """Send what a drain wants and is not there yet."""
    wanted = (plan.messages or 100_000) - await ready(plan)
    if wanted > 0:
        async with plan.connect() as client:
            async for _ in client.send_stream(plan.queue, (os.urandom(plan.size) for _ in range(wanted))):
                pass


async def empty(plan: Plan) -> None:
    """Drop what scenarios have left."""
    async with plan.connect() as client:
        await client.purge_queue(plan.queue)


@asynccontextmanager
async def _clients(plan: Plan, count: int) -> AsyncIterator[list[dmqnode.Client]]:
    """Connect `count` clients: what a scenario measures begins when all are there."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(plan.connect()) for _ in range(count)]
        for client in clients:
            await client.queue(plan.queue)
        yield clients


@asynccontextmanager
async def _measuring(plan: Plan, name: str, of: str, latencies: Latencies) -> AsyncIterator[Measured]:
    found = Measured(name, 0, plan.size, plan.batch, 0.0, of, latencies)
    cpu, begun = cpu_seconds(plan.pids), time.perf_counter()
    yield found
    found.seconds = time.perf_counter() - begun
    if plan.pids:
        found.cpu = cpu_seconds(plan.pids) - cpu
        found.memory = resident_bytes(plan.pids)


async def together(tasks: list[Callable[[], Awaitable[None]]]) -> None:
    """Run tasks until all are done; the first error of a client's ends them all, and is raised as it is."""
    failed: list[DMQError] = []

    async def run(task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except DMQError as error:
            failed.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)
    if failed:
        raise failed[0]
