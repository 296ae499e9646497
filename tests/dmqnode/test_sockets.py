"""Reading takes what has come, from sockets and from other streams alike, and never raises for an end."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import memory_stream_pair

from dmqnode.sockets import receive


def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    first, second = socket.socketpair()
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(s)) for s in (first, second))  # type: ignore[return-value]


async def test_a_socket_is_waited_for_and_read() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await receive(ours, 4))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(b"abcdef")
        assert got == [b"abcd"]
        assert await receive(ours, 4) == b"ef"


async def test_the_end_and_a_broken_connection_are_nothing_to_read() -> None:
    ours, theirs = pair()
    async with ours:
        await theirs.aclose()
        assert await receive(ours, 4) == b""
    assert await receive(ours, 4) == b""  # it is closed


async def test_a_reset_is_an_end() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        ours = await trio.open_tcp_stream(*listener.socket.getsockname())
        theirs = await listener.accept()
        async with ours:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            await theirs.aclose()
            assert await receive(ours, 4) == b""


async def test_cancelling_takes_nothing() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        with trio.move_on_after(0):
            await receive(ours, 4)
            pytest.fail("it was cancelled")
        await theirs.send_all(b"x")
        assert await receive(ours, 4) == b"x"


async def test_other_streams_are_read_as_they_are() -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"x")
    assert await receive(ours, 4) == b"x"
    await theirs.aclose()
    assert await receive(ours, 4) == b""
