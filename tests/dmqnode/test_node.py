"""A whole node: what is answered is on disk, what is under way survives a stop, a bad disk ends it."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmqnode.effects import Compact
from dmqnode.messages import Failed, GetQueue, Receive, Stored
from storage.errors import StorageError
from storage.faults import Faults
from storage.memory import MemoryStore
from tests.dmqnode.running import GatedStore, bodies, running, until


async def test_what_is_sent_is_received_until_it_is_acked(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        client = here.connect()
        await client.create(visibility=10)
        await client.send(b"a", b"b")
        await client.send(b"c")
        first = await client.receive(2)
        assert bodies(first) == [b"a", b"b"]
        await client.ack(first)
        assert bodies(await client.receive()) == [b"c"]
        assert bodies(await client.receive()) == []
        mock_clock.jump(10.1)
        assert bodies(await client.receive()) == [b"c"]


async def test_a_send_wakes_a_long_poll_at_once(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        waiter, sender = here.connect(), here.connect()
        await sender.create()
        number = await waiter.start(Receive("q", 10, 1000, 60.0, None))
        await sender.ask(GetQueue("q"))
        assert waiter.answers == {}
        before = trio.current_time()
        await sender.send(b"a")
        await until(lambda: number in waiter.answers)
        assert bodies(waiter.answers[number]) == [b"a"]
        assert trio.current_time() == before


async def test_a_long_poll_ends_when_its_wait_is_over(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        client = here.connect()
        await client.create()
        number = await client.start(Receive("q", 10, 1000, 5.0, None))
        await client.ask(GetQueue("q"))
        mock_clock.jump(4.9)
        await client.ask(GetQueue("q"))
        assert number not in client.answers
        mock_clock.jump(0.2)
        await until(lambda: number in client.answers)
        assert bodies(client.answers[number]) == []


@pytest.mark.share(1 / 50)
async def test_random_clients_lose_nothing_and_get_nothing_twice(seeds: range) -> None:
    """Clients come, go in the middle of requests, and crash the node now and then."""
    for seed in seeds:
        rng = random.Random(seed)
        store = MemoryStore(Faults(rng=random.Random(seed)))
        answered: set[bytes] = set()
        sent: set[bytes] = set()
        acked: list[bytes] = []
        made = 0
        for _ in range(3):
            async with running(store) as here:
                for _ in range(8):
                    client = here.connect()
                    await client.create(visibility=3600)
                    for _ in range(rng.randint(1, 5)):
                        batch = [b"%d" % (made + i) for i in range(rng.randint(1, 5))]
                        made += len(batch)
                        sent.update(batch)
                        number = await client.start(client.message(*batch))
                        if rng.random() < 0.8:
                            await until(lambda c=client, n=number: n in c.answers)  # type: ignore[misc]
                            assert isinstance(client.answers[number], Stored)
                            answered.update(batch)
                    got = await client.receive(rng.randint(1, 6))
                    await client.ack(got)
                    acked += bodies(got)
                    await client.stream.aclose()
            store = store.crash()
        async with running(store) as here:
            client = here.connect()
            while rest := bodies(await client.receive(100)):
                acked += rest
        assert len(acked) == len(set(acked))
        assert answered <= set(acked) <= sent


async def test_a_full_disk_refuses_sends_while_receive_and_ack_go_on(mock_clock: MockClock) -> None:
    store = MemoryStore(Faults(rng=random.Random(1), capacity=400_000))
    async with running(store, disk_reserve=100_000) as here:
        client = here.connect()
        await client.create()
        stored = 0
        while isinstance(answer := await client.ask(client.message(bytes(10_000))), Stored):
            stored += 1
            assert stored < 100
        assert isinstance(answer, Failed)
        assert (answer.code, answer.stored) == ("disk-full", "no")
        assert stored > 20
        taken = 0
        while (got := await client.receive(5)).parts:
            taken += len(bodies(got))
            await client.ack(got)
        assert taken == stored
        mock_clock.jump(1.1)
        await until(lambda: here.node.broker.surroundings.free_disk > 100_000)
        await client.send(b"again")


async def test_stopping_answers_what_is_under_way_and_refuses_what_is_new(mock_clock: MockClock) -> None:
    store = GatedStore()
    async with running(store) as here:
        client, waiter = here.connect(), here.connect()
        await client.create()
        waiting = await waiter.start(Receive("q", 1, 1000, 600.0, None))
        await client.ask(GetQueue("q"))
        store.gate.clear()
        first = await client.start(client.message(b"a"))
        await until(lambda: here.node.broker.counters.requests >= 4)
        second = await client.start(client.message(b"b"))
        await until(lambda: here.node.broker.counters.requests >= 5)
        here.node.stop()
        await until(lambda: client.notices)
        late = await client.start(client.message(b"c")) if client.connection.can_send(300) else None
        assert late is None  # the goodbye told the client
        assert first not in client.answers
        store.gate.set()
        await until(lambda: here.node.ended.is_set())
        await until(lambda: client.ended)
        assert isinstance(client.answers[first], Stored)
        assert isinstance(client.answers[second], Stored)
        assert bodies(waiter.answers[waiting]) == []
    async with running(store.reopen()) as here:
        assert bodies(await here.connect().receive()) == [b"a", b"b"]


class Compacting(GatedStore):
    """A disk that compacts until it is told to end."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.told = threading.Event(), threading.Event()

    def compact(self, start: bytes, stop: bytes) -> None:
        self.begun.set()
        assert self.told.wait(30)

    def end_compactions(self) -> None:
        self.told.set()


async def test_a_stop_does_not_wait_for_a_compaction(mock_clock: MockClock) -> None:
    store = Compacting()
    async with running(store) as here:
        client = here.connect()
        await client.create()
        here.node.broker.compactions.append(Compact(b"p", b"q"))
        here.node.perform()
        await until(store.begun.is_set)
        assert not store.told.is_set()
        here.node.stop()
        await until(here.node.ended.is_set)


async def test_a_stop_writes_the_notes_durably(mock_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as here:
        client = here.connect()
        await client.create(visibility=20)
        await client.send(b"a", b"b")
        held = await client.receive(1)
        here.node.stop()
        await until(lambda: here.node.ended.is_set())
    async with running(store.crash(random.Random(0))) as here:
        client = here.connect()
        assert bodies(await client.receive()) == [b"b"]
        await client.ack(held)
        mock_clock.jump(21)
        assert bodies(await client.receive()) == [b"b"]


async def test_nothing_is_answered_before_it_is_on_disk(mock_clock: MockClock) -> None:
    store = GatedStore()
    async with running(store) as here:
        client = here.connect()
        await client.create()
        store.gate.clear()
        numbers = [await client.start(client.message(b"%d" % i)) for i in range(20)]
        await until(lambda: here.node.broker.counters.requests >= 21)
        for _ in range(5):
            mock_clock.jump(1.0)
            await wait_all_tasks_blocked()
        assert client.answers == {}
        before = store.groups
        store.gate.set()
        await until(lambda: len(client.answers) == 20)
        assert all(isinstance(client.answers[n], Stored) for n in numbers)
        # The first went alone, whatever came meanwhile went together.
        assert store.groups - before <= 3


async def test_a_slow_disk_costs_no_processor(mock_clock: MockClock) -> None:
    store = GatedStore()
    async with running(store) as here:
        client = here.connect()
        await client.create()
        await client.send(b"a", b"b")
        store.gate.clear()
        await client.start(client.message(b"c"))
        await client.receive(1)  # its note is due in a moment, while the disk is busy
        mock_clock.jump(0.5)
        ticks = 0
        tick = here.node.broker.tick

        def counted(now: Any) -> None:
            nonlocal ticks
            ticks += 1
            tick(now)

        here.node.broker.tick = counted  # type: ignore[method-assign]
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        print("TICKS", ticks, here.node.broker._notes_due, trio.current_time(), here.node._committing)
        assert ticks <= 2
        store.gate.set()


@pytest.mark.parametrize("fault", ["write_error", "sync_error"])
async def test_a_disk_that_fails_ends_the_node_and_answers_nothing_more(
    mock_clock: MockClock, fault: str
) -> None:
    for seed in range(5):
        faults = Faults(rng=random.Random(seed))
        store = MemoryStore(faults)
        client = None
        with pytest.RaisesGroup(
            pytest.RaisesGroup(StorageError), flatten_subgroups=False, allow_unwrapped=False
        ):
            async with running(store) as here:
                client = here.connect()
                await client.create()
                await client.send(b"a")
                setattr(faults, fault, 1.0)
                for _ in range(3):
                    await client.start(client.message(b"b"))
                await trio.sleep_forever()
        assert client is not None
        assert client.answers == {}


async def test_a_disk_that_cannot_be_read_ends_the_node(mock_clock: MockClock) -> None:
    faults = Faults(rng=random.Random(1))
    store = MemoryStore(faults)
    async with running(store) as here:
        client = here.connect()
        await client.create()
        await client.send(b"a")

    async def receive() -> None:
        async with running(store.reopen()) as here:
            faults.read_error = 1.0
            await here.connect().start(Receive("q", 1, 1000, 0.0, None))
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await receive()
    assert caught.value.subgroup(StorageError) is not None
