"""A node on a memory disk and memory streams, for tests whose clock stands still until it is told to jump."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from dmqnode.batch import encode, parse
from dmqnode.clock import Now
from dmqnode.config import NodeConfig
from dmqnode.connection import Connection
from dmqnode.machine import Machine
from dmqnode.membership import found, read_membership
from dmqnode.messages import (
    Ack,
    CreateQueue,
    Delivered,
    Hello,
    Message,
    QueueInfo,
    Receive,
    Send,
    Settled,
    Stored,
)
from dmqnode.node import Node
from dmqnode.roster import Member
from storage.faults import Faults
from storage.memory import MemoryStore
from storage.ops import WriteBatch

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
WALL = 1_700_000_000_000
_PRODUCERS = count()


class OnTime(Machine):
    """Its wall clock goes with the running time."""

    def __init__(self) -> None:
        self.in_threads = 0
        """Calls that are under way in threads, for which no virtual time should pass."""

    async def in_thread(
        self,
        act: Callable[[*Ts], T],
        *args: *Ts,
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        self.in_threads += 1
        try:
            return await super().in_thread(act, *args, limiter=limiter)
        finally:
            self.in_threads -= 1

    def now(self) -> Now:
        run = trio.current_time()
        return Now(run, WALL + round(run * 1000))


class GatedStore(MemoryStore):
    """A disk whose writes take until the test lets them through."""

    def __init__(self, faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.gate = threading.Event()
        self.gate.set()
        self.groups = 0

    def write(self, batch: WriteBatch, *, sync: bool, reserve: int = 0) -> None:
        assert self.gate.wait(30)
        super().write(batch, sync=sync, reserve=reserve)
        self.groups += 1


class MemoryDoor(trio.abc.Listener[trio.StapledStream[Any, Any]]):
    """A listener whose connections are pairs of memory streams."""

    def __init__(self) -> None:
        self._into, self._out = trio.open_memory_channel[trio.StapledStream[Any, Any]](1000)
        self.theirs: trio.StapledStream[Any, Any] | None = None
        """The node's side of the last connection."""

    def connect(self, *, lockstep: bool = False) -> trio.StapledStream[Any, Any]:
        """Connect; with `lockstep` nothing is buffered: what one side writes waits until the other reads."""
        ours, theirs = lockstep_stream_pair() if lockstep else memory_stream_pair()
        self._into.send_nowait(theirs)
        self.theirs = theirs
        return ours

    async def accept(self) -> trio.StapledStream[Any, Any]:
        return await self._out.receive()

    async def aclose(self) -> None:
        self._out.close()
        await trio.lowlevel.checkpoint()


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Let other tasks and threads go on until `holds()`; no virtual time passes."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "this takes too long"
        await wait_all_tasks_blocked()


class Client:
    """One client: sends what it is told to, and collects answers."""

    def __init__(self, stream: trio.StapledStream[Any, Any], seed: int) -> None:
        self.stream = stream
        self.connection = Connection.client(Hello(1, 1, f"c{seed}", "", [], 1 << 24), 0.0)
        self.answers: dict[int, Message] = {}
        self.notices: list[Message] = []
        self.ended = False
        self._producer = next(_PRODUCERS).to_bytes(16, "big")
        self._sequence = 0

    async def read(self) -> None:
        try:
            while data := await self.stream.receive_some():
                for number, message in self.connection.receive_data(0.0, data):
                    if number:
                        self.answers[number] = message
                    else:
                        self.notices.append(message)
                await self.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.ended = True

    async def flush(self) -> None:
        data = self.connection.data_to_send()
        if data:
            await self.stream.send_all(data)

    async def start(self, message: Message) -> int:
        number = self.connection.request(message)
        await self.flush()
        return number

    async def ask(self, message: Message) -> Message:
        number = await self.start(message)
        await until(lambda: number in self.answers or self.ended)
        return self.answers.pop(number)

    async def create(self, queue: str = "q", **settings: Any) -> None:
        assert isinstance(await self.ask(CreateQueue(queue, settings, True)), QueueInfo)

    def message(self, *bodies: bytes, queue: str = "q") -> Send:
        self._sequence += 1
        floor = max(0, self._sequence - 50)
        return Send(queue, self._producer, self._sequence, floor, None, False, encode(list(bodies)).blob)

    async def send(self, *bodies: bytes) -> None:
        answer = await self.ask(self.message(*bodies))
        assert isinstance(answer, Stored), answer

    async def receive(self, limit: int = 10, *, visibility: float | None = None) -> Delivered:
        answer = await self.ask(Receive("q", limit, 1 << 20, 0.0, visibility))
        assert isinstance(answer, Delivered), answer
        return answer

    async def ack(self, delivered: Delivered) -> None:
        held = [(p.partition, p.delivery, p.log, p.first, p.count) for p in delivered.parts]
        answer = await self.ask(Ack(held))
        assert answer == Settled([]), answer


def bodies(delivered: Message) -> list[bytes]:
    assert isinstance(delivered, Delivered), delivered
    return [body for part in delivered.parts for body in parse(part.batch).bodies()]


class Running:
    """A running node, and a way to connect to it."""

    def __init__(self, node: Node, door: MemoryDoor, nursery: trio.Nursery, machine: OnTime) -> None:
        self.node = node
        self.door = door
        self.machine = machine
        self._nursery = nursery
        self._clients = 0

    def connect(self) -> Client:
        self._clients += 1
        client = Client(self.door.connect(), self._clients)
        self._nursery.start_soon(client.read)
        return client


@asynccontextmanager
async def running(store: MemoryStore, **settings: Any) -> AsyncIterator[Running]:
    """Run a node on `store`; at the end it is cancelled, unless it was stopped."""
    config = NodeConfig(data=Path("/nowhere"), name="n", **settings)
    membership = read_membership(store)
    me = Member(membership.identity.node, "n", "memory:1")
    membership = found(store, membership, config.cluster, me)
    door = MemoryDoor()
    machine = OnTime()
    node = Node(config, store, membership, [door], address="memory:1", machine=machine)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield Running(node, door, nursery, machine)
        nursery.cancel_scope.cancel()
