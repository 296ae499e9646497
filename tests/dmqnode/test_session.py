"""Connections that end, fall silent or are not read."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmqnode.messages import Cancelled, GetQueue, Receive
from storage.memory import MemoryStore
from tests.dmqnode.running import Client, bodies, running, until


async def test_what_was_not_written_to_a_client_that_left_is_ready_again(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        gone, client = here.connect(), here.connect()
        await client.create(max_message_size=8 << 20)
        await gone.ask(GetQueue("q"))
        number = await gone.start(Receive("q", 10, 1000, 60.0, None))
        await client.ask(GetQueue("q"))
        await gone.stream.aclose()
        await until(lambda: here.node.broker.deliveries.waiting == 0)
        await client.send(b"a")
        assert bodies(await client.receive()) == [b"a"]
        assert number not in gone.answers


async def test_a_receive_that_is_cancelled_is_answered_and_takes_nothing(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        client = here.connect()
        await client.create()
        number = await client.start(Receive("q", 10, 1000, 60.0, None))
        client.connection.cancel(number)
        await client.flush()
        await until(lambda: number in client.answers)
        assert client.answers[number] == Cancelled()
        await client.send(b"a")
        assert bodies(await client.receive()) == [b"a"]


async def test_a_client_that_says_nothing_is_hung_up_on(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        client = here.connect()
        await wait_all_tasks_blocked()
        mock_clock.jump(10.1)
        await until(lambda: client.ended)


async def test_a_silent_client_is_asked_and_then_given_up(mock_clock: MockClock) -> None:
    async with running(MemoryStore(), keepalive=5.0) as here:
        client = here.connect()
        await client.create()
        mock_clock.jump(5.1)
        await until(lambda: not client.ended)
        for _ in range(10):  # this one answers
            mock_clock.jump(5.1)
            await wait_all_tasks_blocked()
            await client.ask(GetQueue("q"))
        deaf = here.connect()
        await deaf.ask(GetQueue("q"))
        deaf.flush = trio.lowlevel.checkpoint  # type: ignore[method-assign]
        for _ in range(4):
            mock_clock.jump(5.1)
            await wait_all_tasks_blocked()
        await until(lambda: deaf.ended)
        assert not client.ended


async def test_a_client_that_does_not_read_delays_a_stop_by_some_seconds_only(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        await here.connect().create()
        deaf = Client(here.door.connect(lockstep=True), 99)
        await deaf.start(GetQueue("q"))
        await until(lambda: len(here.node.doors.sessions) == 2)
        here.node.stop()
        await wait_all_tasks_blocked()
        mock_clock.jump(4.9)
        await wait_all_tasks_blocked()
        assert not here.node.ended.is_set()
        mock_clock.jump(0.2)
        await until(lambda: here.node.ended.is_set())


async def test_a_client_that_takes_nothing_is_given_up_and_its_messages_come_back(
    mock_clock: MockClock,
) -> None:
    async with running(MemoryStore(), keepalive=1000.0) as here:
        client = here.connect()
        await client.create(visibility=70)
        deaf = Client(here.door.connect(lockstep=True), 99)
        await deaf.start(GetQueue("q"))  # its answer blocks the writer; what comes behind it never leaves
        await until(lambda: len(here.node.doors.sessions) == 2)
        await deaf.start(Receive("q", 1, 1000, 600.0, None))
        await until(lambda: here.node.broker.deliveries.waiting == 1)
        await client.send(b"a")
        assert bodies(await client.receive()) == []
        for _ in range(3):  # at once it would be taken for a process that stood still
            mock_clock.jump(20.1)
            await wait_all_tasks_blocked()
        await until(lambda: len(here.node.doors.sessions) == 1)
        assert bodies(await client.receive()) == [b"a"]
