"""The clients of whole nodes: producers and consumers, through random nodes, with the real client.

All time is virtual (MockClock).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from dmqnode.addresses import Dialling
from dmqnode.asking import Asking
from dmqnode.client import Client, Message
from dmqnode.errors import DMQError, PartlyFailed, Refused, StaleReceipt, Unavailable, Unknown
from dmqnode.leaders import Leaders
from dmqnode.line import Line
from dmqnode.link import Link
from dmqnode.messages import LEADS, Hello
from dmqnode.routes import Routes
from dmqnode.wire import MAX_FRAME

if TYPE_CHECKING:
    from tests.simulation.nodes.world import World

TIMEOUT = 12.0
VISIBILITY = 4.0
CREATED = 30.0
"""Seconds within which a queue is made."""
QUEUES: dict[str, dict[str, Any]] = {"plain": {}, "wide": {"partitions": 3}}


def client_of(world: World, host: str, addresses: list[str], timeout: float = TIMEOUT) -> Client:
    """Return a new client on a host that no fault concerns; half of them go to leaders themselves."""
    rng = random.Random(world.rng.getrandbits(64))
    direct = rng.random() < 0.5
    hello = Hello(1, 1, host, "", [LEADS] if direct else [], MAX_FRAME, None)
    producer = rng.randbytes(16)
    link = Link(hello, Dialling(addresses, rng.random))
    routes = Routes(link, Leaders(producer) if direct else None, rng.random, guarded=False)
    return Client(Line(Asking(routes, producer, timeout, rng.random), partial(world.net.dial, host)))


class Errands:
    """What clients do until the world is calm, and what they still take then."""

    queues: ClassVar[dict[str, dict[str, Any]]] = QUEUES
    waits: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(world.rng.getrandbits(64))
        self.done = False
        self.consuming = self.producing = 0

    def client(self, host: str) -> Client:
        """Return a client that dials the nodes in any order."""
        addresses = [b.address for b in self._world.boxes if b.wanted]
        self._rng.shuffle(addresses)
        return client_of(self._world, host, addresses[:3])

    async def create(self) -> None:
        """Make the queues."""
        for name, settings in self.queues.items():
            until = trio.current_time() + CREATED
            while True:
                async with self.client("creator") as client:
                    try:
                        await client.create_queue(name, if_not_exists=True, visibility=VISIBILITY, **settings)
                        break
                    except DMQError as error:
                        self._world.note("create", name, error)
                        if trio.current_time() >= until:
                            self._world.accounts.broken(
                                "P7", "unusable", f"{name} cannot be created: {error}"
                            )
                        await trio.sleep(0.5)

    async def produce(self, number: int) -> None:
        """Send until it is calm."""
        self.producing += 1
        while not self._world.calm:
            async with self.client(f"producer{number}") as client:
                until = trio.current_time() + self._rng.uniform(2, 12)
                while trio.current_time() < until and not self._world.calm:
                    await self._send(client, number)
                    await self._rest()
                    await trio.sleep(self._rng.choice((0.05, 0.2, 0.4, 1.0)))
        self.producing -= 1

    async def _send(self, client: Client, producer: int) -> None:
        accounts = self._world.accounts
        queue = self._rng.choice(list(QUEUES))
        delay = self._rng.choice((0.0, 0.0, 0.0, 1.5))
        sent = [accounts.new(queue, delay) for _ in range(self._rng.choice((1, 1, 3, 20)))]
        try:
            if len(sent) == 1:
                await client.send(queue, sent[0].body, delay=delay or None)
            else:
                await client.send_many(queue, [m.body for m in sent], delay=delay or None)
        except PartlyFailed:
            accounts.outcome(sent, "unknown")
        except Unknown:
            accounts.outcome(sent, "unknown")
        except (Refused, Unavailable):
            accounts.outcome(sent, "not stored")
        else:
            accounts.outcome(sent, "stored")

    async def consume(self, number: int) -> None:
        """Receive and ack until everything is done."""
        self.consuming += 1
        while not self.done:
            async with self.client(f"consumer{number}") as client:
                until = trio.current_time() + self._rng.uniform(4, 20)
                while trio.current_time() < until and not self.done:
                    for queue in self.queues:
                        await self._receive(client, queue)
                    await self._rest()
        self.consuming -= 1

    async def _rest(self) -> None:
        """In long faults do something now and then only."""
        if self._world.resting:
            with trio.move_on_after(self._rng.uniform(30.0, 90.0)):
                while self._world.resting:  # noqa: ASYNC110
                    await trio.sleep(1.0)

    async def _receive(self, client: Client, queue: str) -> None:
        wait = self._rng.choice(self.waits)
        with trio.move_on_after(self._rng.choice((30.0, 30.0, 0.5))):
            try:
                messages = await client.receive(queue, max_messages=self._rng.choice((1, 10, 50)), wait=wait)
            except DMQError as error:
                self._world.note("receive", queue, error)
                return
            if messages:
                await self._settle(client, queue, messages)

    async def _settle(self, client: Client, queue: str, messages: list[Message]) -> None:
        accounts = self._world.accounts
        held = [(m, accounts.received(bytes(m.body), queue)) for m in messages]
        action = self._rng.choice(("ack",) * 8 + ("nack", "forget"))
        if action == "forget" and not self._world.calm:
            return
        await trio.sleep(self._rng.choice((0.0, 0.0, 0.01, 0.5)))
        try:
            if action == "nack" and not self._world.calm:
                for _, sent in held:
                    accounts.given_back(sent)
                await client.nack([m for m, _ in held])
                return
            for _, sent in held:
                sent.acking_at = trio.current_time()
            failed: set[int] = set()
            try:
                await client.ack([m for m, _ in held])
            except PartlyFailed as partly:
                failed = {at for at, _ in partly.failures}
            for n, (m, sent) in enumerate(held):
                if n not in failed:
                    accounts.acked(sent, m.id)
        except StaleReceipt:
            accounts.counts["stale"] += 1
        except DMQError as error:
            self._world.note("settle", queue, error)


@asynccontextmanager
async def one_client(world: World, address: str, patience: float = 5.0) -> AsyncIterator[Client]:
    """Give a client of one node."""
    async with client_of(world, "operator", [address], patience) as client:
        yield client
