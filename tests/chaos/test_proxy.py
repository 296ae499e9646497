"""The proxy: cut, one way, lost, doubled, and what waited comes after all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.chaos.network import CUT, possible
from tests.chaos.proxy import CLIENT, FINE, SENT_AGAIN, Link, Proxy, Trouble

pytestmark = pytest.mark.skipif(not possible(), reason="one loopback address only")
A, B = "127.77.7.11", "127.77.7.12"


async def free_port() -> int:
    with trio.socket.socket() as probe:
        await probe.bind((B, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def between() -> AsyncIterator[tuple[Proxy, int]]:
    """Run a proxy between a and b; b answers what it gets."""
    port = await free_port()
    proxy = Proxy({"a": (("127.77.7.111", port), (A, port)), "b": (("127.77.7.112", port), (B, port))})

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host=B)
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        await nursery.start(proxy.run)
        yield proxy, port
        nursery.cancel_scope.cancel()


async def comes(stream: trio.SocketStream, seconds: float = 0.2) -> bytes:
    with trio.move_on_after(seconds):
        return bytes(await stream.receive_some(100))
    return b""


async def test_bytes_wait_where_a_link_is_cut_and_come_when_it_is_mended() -> None:
    async with between() as (proxy, port):
        stream = await trio.open_tcp_stream("127.77.7.112", port, local_address=A)
        async with stream:
            await stream.send_all(b"1")
            assert await comes(stream, 5) == b"1"
            proxy.link("tcp", CLIENT, "b").set(CUT)  # another link
            proxy.link("udp", "a", "b").set(CUT)  # another kind
            await stream.send_all(b"2")
            assert await comes(stream, 5) == b"2"
            for way in (("a", "b"), ("b", "a")):
                proxy.link("tcp", *way).set(CUT)
                await stream.send_all(b"3")
                assert await comes(stream) == b""
                proxy.link("tcp", *way).set(FINE)
                assert await comes(stream, 5) == b"3"


async def test_a_new_connection_waits_where_a_link_is_cut() -> None:
    async with between() as (proxy, port):
        proxy.link("tcp", "b", "client").set(CUT)
        async with await trio.open_tcp_stream("127.77.7.112", port) as stream:
            await stream.send_all(b"1")
            assert await comes(stream) == b""
            proxy.link("tcp", "b", "client").set(FINE)
            assert await comes(stream, 5) == b"1"


async def test_datagrams_come_from_the_address_that_all_know_and_are_lost_and_doubled() -> None:
    async with between() as (proxy, port):
        with (
            trio.socket.socket(type=trio.socket.SOCK_DGRAM) as a,
            trio.socket.socket(type=trio.socket.SOCK_DGRAM) as b,
        ):
            await a.bind((A, port))
            await b.bind((B, port))
            await a.sendto(b"1", ("127.77.7.112", port))
            assert await b.recvfrom(100) == (b"1", ("127.77.7.111", port))
            proxy.link("udp", "a", "b").set(CUT)
            await a.sendto(b"lost", ("127.77.7.112", port))
            await trio.testing.wait_all_tasks_blocked(0.05)
            proxy.link("udp", "a", "b").set(Trouble(duplicate=1.0))
            await a.sendto(b"2", ("127.77.7.112", port))
            assert [(await b.recvfrom(100))[0] for _ in range(2)] == [b"2", b"2"]


def test_of_many_segments_some_are_lost_more_often_than_of_one() -> None:
    rng, link = random.Random(1), Link()
    assert link.sent_again(60_000, rng) == 0
    link.set(Trouble(loss=0.1))
    one = [link.sent_again(100, rng) for _ in range(1000)]
    many = [link.sent_again(60_000, rng) for _ in range(1000)]
    assert 50 < sum(pause > 0 for pause in one) < 150
    assert sum(pause > 0 for pause in many) > 950
    assert max(many) < 10 * SENT_AGAIN
