"""What all connections together may have under way."""

from __future__ import annotations

import math
import socket

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dmqnode.batch import encode
from dmqnode.doors import STALE, hang_up_on_backlog
from dmqnode.messages import Browse, Browsed, GetQueue, QueueInfo, Receive, Send
from storage.memory import MemoryStore
from tests.dmqnode.running import Client, bodies, running, until


async def test_questions_wait_their_turn_and_are_all_answered(mock_clock: MockClock) -> None:
    async with running(MemoryStore()) as here:
        client = here.connect()
        await client.create()
        await client.send(*[b"%d" % i for i in range(100)])
        numbers = [client.connection.request(Browse("q", "ready", 10, 1000, None)) for _ in range(200)]
        receive = client.connection.request(Receive("q", 1, 1000, 0.0, None))
        await client.flush()
        await until(lambda: receive in client.answers)
        await until(lambda: all(n in client.answers for n in numbers))
        assert {type(client.answers[n]) for n in numbers} == {Browsed}


async def test_a_client_with_too_many_unread_answers_gets_no_more_messages(mock_clock: MockClock) -> None:
    async with running(MemoryStore(), keepalive=1000.0) as here:
        client = here.connect()
        await client.create(max_message_size=4 << 20, visibility=1000)
        for _ in range(6):
            await client.send(bytes(2 << 20))
        deaf = Client(here.door.connect(lockstep=True), 99)
        await deaf.start(GetQueue("q"))  # its answer blocks the writer
        for _ in range(6):
            deaf.connection.request(Receive("q", 1, 4 << 20, 600.0, None))
        await deaf.flush()  # at once: soon nothing more is read from it
        await until(lambda: here.node.broker.counters.requests >= 14)
        # Two answers go beyond the limit of 4 MiB; the others are for those who read.
        await until(lambda: here.node.broker.counters.delivered == 2)
        assert here.node.broker.deliveries.waiting == 4
        for _ in range(4):
            assert len(bodies(await client.receive(1))) == 1
        assert bodies(await client.receive(1)) == []
        await client.send(b"next")
        assert bodies(await client.receive(1)) == [b"next"]


async def test_when_unread_answers_fill_the_memory_who_does_not_read_goes(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dmqnode.session.WRITE_TIMEOUT", math.inf)  # it is not that which helps
    async with running(MemoryStore(), keepalive=1e6) as here:
        here.node.doors._going.limit = 32 << 20
        client = here.connect()
        await client.create(max_message_size=4 << 20, visibility=1000)
        for _ in range(24):
            await client.send(bytes(2 << 20))
        deaf = [Client(here.door.connect(lockstep=True), n) for n in range(8)]
        for one in deaf:
            await one.start(GetQueue("q"))
        for one in deaf:
            for _ in range(3):
                one.connection.request(Receive("q", 1, 4 << 20, 600.0, None))
            await one.flush()
        await until(lambda: here.node.broker.deliveries.crowded)
        number = await client.start(Receive("q", 1, 4 << 20, 600.0, None))
        mock_clock.jump(1.0)
        await wait_all_tasks_blocked()
        assert number not in client.answers

        def passed_on() -> bool:
            if not here.machine.in_threads:  # the node looks once a second, and between two asks the disk
                mock_clock.jump(0.1)
            return number in client.answers

        await until(passed_on)
        assert len(here.node.doors.sessions) < 9
        assert not client.ended


@pytest.mark.parametrize("first", ["the reader", "whoever ends all connections"])
async def test_what_came_while_the_process_stood_still_is_not_done_whoever_wakes_first(
    first: str, mock_clock: MockClock
) -> None:
    async with running(MemoryStore(), keepalive=1e6) as here:
        client = here.connect()
        await client.create()
        await wait_all_tasks_blocked()
        doors, theirs = here.node.doors, here.door.theirs
        assert theirs is not None
        client.connection.request(Send("q", b"p" * 16, 1, 0, None, False, encode([b"late"]).blob))
        mock_clock.jump(STALE + 1)  # nobody else is awake before both are
        theirs.receive_stream.put_data(client.connection.data_to_send())
        if first == "the reader":
            await trio.lowlevel.checkpoint()
        doors.beat(here.node.now())
        await until(lambda: client.ended)
        other = here.connect()
        found = await other.ask(GetQueue("q"))
        assert isinstance(found, QueueInfo)
        assert found.info["ready"] == 0


async def test_who_connected_and_was_not_let_in_is_hung_up_on_and_the_next_is_not() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        address = listener.socket.getsockname()
        waiting = [socket.create_connection(address, 5) for _ in range(3)]
        for one in waiting:
            one.sendall(b"meant for the backlog")
        hang_up_on_backlog(listener)
        for one in waiting:
            with one, pytest.raises(ConnectionResetError):
                one.recv(1)
        with socket.create_connection(address, 5) as late, trio.fail_after(5):
            late.sendall(b"x")
            async with await listener.accept() as stream:
                assert await stream.receive_some(10) == b"x"


async def test_who_was_taken_out_of_the_backlog_before_a_standstill_was_noticed_is_hung_up_on(
    mock_clock: MockClock,
) -> None:
    async with running(MemoryStore(), keepalive=1e6) as here:
        client = here.connect()
        await client.create()
        await wait_all_tasks_blocked()
        here.door.connect()
        mock_clock.jump(STALE + 1)
        here.node.doors.beat(here.node.now())  # the connection is on its way to whoever serves it
        await wait_all_tasks_blocked()
        assert not here.node.doors.sessions
        here.door.connect()
        await wait_all_tasks_blocked()
        assert len(here.node.doors.sessions) == 1


async def test_a_listener_that_is_closed_has_nobody_waiting() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await listener.aclose()
    hang_up_on_backlog(listener)
