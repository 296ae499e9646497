"""The driver adds nothing: on trio, cores do the very same as on a heap of events."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from gossip.config import SwimConfig
from gossip.driver import EXCHANGES_LIMIT, Membership
from gossip.effects import Changed, Event
from gossip.messages import Member, Status, first_incarnation
from gossip.swim import Swim
from gossip.transport import Unreachable
from tests.gossip.lone import member
from tests.gossip.world import CLUSTER, Disk, Network, World, address_of, node_id

STEP = 0.0137
NAMES = [f"n{number}" for number in range(5)]
KNOWN = tuple(map(address_of, NAMES))


class Fabric:
    """Moves datagrams and states between the `Membership`s of a world, as the world would."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self.world = world
        self.nursery = nursery
        self.ports: dict[str, Port] = {}
        self.members: dict[str, Membership] = {}

    def exchange_from(self, own: str) -> Callable[[str, bytes], Awaitable[bytes]]:
        world = self.world

        async def exchange(address: str, state: bytes) -> bytes:
            world.note("exchange", f"{own}>{address}")
            await trio.sleep(world.network.tcp(world.chance("tcp", own, address)))
            if address not in self.members or world.cut(own, address) or world.cut(address, own):
                raise Unreachable
            reply = self.members[address].answer(state)
            await trio.sleep(world.network.tcp(world.chance("tcp", address, own)))
            if world.cut(address, own):
                raise Unreachable
            return reply

        return exchange


class Port:
    """One node's datagrams."""

    def __init__(self, fabric: Fabric, own: str) -> None:
        self._fabric = fabric
        self._own = own
        self._inbox, self._outbox = trio.open_memory_channel[tuple[str, bytes]](1000)

    async def run(self) -> None:
        """Nothing to do."""

    def send(self, address: str, data: bytes) -> None:
        world = self._fabric.world
        world.note("send", self._own, address, data)
        for delay in world.network.crossings(world.chance("udp", self._own, address)):
            self._fabric.nursery.start_soon(self._carry, delay, address, data)

    async def _carry(self, delay: float, address: str, data: bytes) -> None:
        await trio.sleep(delay)
        port = self._fabric.ports.get(address)
        if port is not None and not self._fabric.world.cut(self._own, address):
            port._inbox.send_nowait((self._own, data))

    async def receive(self) -> tuple[str, bytes]:
        return await self._outbox.receive()


def lossy(seed: int) -> World:
    return World(seed, network=Network(loss=0.05, duplicated=0.05, late=0.05))


def on_a_heap(seed: int) -> World:
    """A crash and a split, in the pure world."""
    world = lossy(seed)
    for name in NAMES:
        world.start(name, cluster=CLUSTER, known=KNOWN)
        world.run(STEP)
    world.run(5)
    world.crash("n1")
    world.run(10)
    world.split(NAMES[:2], NAMES[2:])
    world.run(20)
    world.heal()
    world.run(10)
    return world


async def on_trio(seed: int) -> World:
    """The same, with the driver."""
    world = lossy(seed)

    async def run(name: str, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        own = address_of(name)
        me = Member(node_id(name), name, own, first_incarnation(1))
        rng = random.Random(f"{seed}/{name}/1")
        swim = Swim(
            *(world.config, me, rng, trio.current_time()),
            cluster=CLUSTER,
            cluster_name="test",
            known=KNOWN,
        )
        port = fabric.ports[own] = Port(fabric, own)

        def tell(event: Event) -> None:
            world.disks.setdefault(name, Disk())
            world.time = trio.current_time()
            world.tell(name, event)

        membership = Membership(swim, port, fabric.exchange_from(own), tell)
        fabric.members[own] = membership
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await membership.run()
        del fabric.ports[own], fabric.members[own]

    async with trio.open_nursery() as nursery:
        fabric = Fabric(world, nursery)
        scopes = {}
        for name in NAMES:
            scopes[name] = await nursery.start(run, name)
            await trio.sleep(STEP)
        await trio.sleep(5)
        scopes["n1"].cancel()
        await trio.sleep(10)
        world.split(NAMES[:2], NAMES[2:])
        await trio.sleep(20)
        world.heal()
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    return world


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_run_on_trio_equals_a_run_on_the_heap(seed: int, autojump_clock: MockClock) -> None:
    pure = on_a_heap(seed)
    driven = await on_trio(seed)
    assert [seen[1:] for seen in driven.seen] == [seen[1:] for seen in pure.seen]
    assert driven.digest() == pure.digest()
    assert any(seen.new is Status.DEAD for seen in driven.seen)
    assert on_a_heap(seed + 100).digest() != pure.digest()


# --- one node --------------------------------------------------------------------------------------------


class Nowhere:
    """Datagrams that lead nowhere."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def run(self) -> None:
        """Nothing to do."""

    def send(self, address: str, data: bytes) -> None:
        self.sent.append(address)

    async def receive(self) -> tuple[str, bytes]:
        await trio.sleep_forever()
        raise AssertionError


def alone(
    exchange: Callable[[str, bytes], Awaitable[bytes]], **given: object
) -> tuple[Membership, list[Event]]:
    events: list[Event] = []
    known = tuple(f"n{number}:1" for number in range(40))
    settings: dict[str, object] = {"cluster": CLUSTER, "known": known, **given}
    swim = Swim(SwimConfig.lan(), member("me"), random.Random(1), trio.current_time(), **settings)  # type: ignore[arg-type]
    return Membership(swim, Nowhere(), exchange, events.append), events


@pytest.mark.parametrize("error", [OSError, trio.BrokenResourceError, Unreachable])
async def test_an_exchange_that_fails_is_tried_again(
    error: type[Exception], autojump_clock: MockClock
) -> None:
    tried: list[str] = []

    async def exchange(address: str, state: bytes) -> bytes:
        await trio.sleep(0.01)
        tried.append(address)
        raise error

    membership, _ = alone(exchange)
    with trio.move_on_after(10):
        await membership.run()
    assert len(tried) > 20


async def test_exchanges_that_hang_are_bounded_in_number_and_time(autojump_clock: MockClock) -> None:
    open_now: list[str] = []
    most = 0

    async def exchange(address: str, state: bytes) -> bytes:
        nonlocal most
        open_now.append(address)
        most = max(most, len(open_now))
        try:
            await trio.sleep(math.inf)
        finally:
            open_now.remove(address)
        raise AssertionError

    membership, _ = alone(exchange)
    async with trio.open_nursery() as nursery:
        await nursery.start(membership.run)
        await trio.sleep(20)
        for _ in range(3 * EXCHANGES_LIMIT):
            membership._push_pull("n1:1")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert most == EXCHANGES_LIMIT
    assert membership.exchanges_dropped >= 2 * EXCHANGES_LIMIT
    assert open_now == []


async def test_a_bug_in_the_exchange_is_not_hidden(autojump_clock: MockClock) -> None:
    async def exchange(address: str, state: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        raise KeyError(address)

    membership, _ = alone(exchange)
    with pytest.raises(ExceptionGroup):
        await membership.run()


async def test_what_the_node_calls_takes_effect_at_once(autojump_clock: MockClock) -> None:
    async def exchange(address: str, state: bytes) -> bytes:
        raise Unreachable

    membership, events = alone(exchange)
    datagrams = membership._datagrams
    assert isinstance(datagrams, Nowhere)
    async with trio.open_nursery() as nursery:
        await nursery.start(membership.run)
        membership.swim._beliefs.alive(trio.current_time(), member("n1"))
        membership.probe_now(node_id("n1"))
        assert datagrams.sent == [address_of("n1")]
        assert Changed(member("n1"), None, Status.ALIVE) in events
        membership.describe(meta=b"new")
        assert membership.swim.me.meta == b"new"
        await trio.sleep(0.3)
        membership.forget(node_id("n1"))
        assert membership.swim.members()[1][1] is Status.LEFT
        assert len(membership.answer(membership.swim.state_for_push_pull(trio.current_time()))) > 100
        membership.swim._beliefs.alive(trio.current_time(), member("n1", 9))
        datagrams.sent.clear()
        await membership.stop()
        await membership.leave()
        assert datagrams.sent == [address_of("n1")]
        nursery.cancel_scope.cancel()
