"""Reading from a connection with as few calls as it takes."""

from __future__ import annotations

import os
import threading

import trio

LARGEST = 1 << 20
"""Bytes that are read at once at most."""


class _Buffer(threading.local):
    """Where a thread reads to.

    What is read is copied from here: to ask for a megabyte each time, and give back all but some of it,
    takes the system three calls and a fault.
    """

    def __init__(self) -> None:
        self.view = memoryview(bytearray(LARGEST))


_BUFFER = _Buffer()


async def receive(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Return what has come, up to `size` bytes, waiting for it; b"" at the end, or if it broke.

    Of a socket is read only once something is there: whoever reads again and again has mostly to wait, and
    trio's own way asks the system in vain each time.  Cancelling takes nothing.
    """
    try:
        if type(stream) is not trio.SocketStream:
            return bytes(await stream.receive_some(size))
        while (number := stream.socket.fileno()) >= 0:
            await trio.lowlevel.wait_readable(number)
            buffer = _BUFFER.view[:size]
            try:
                return bytes(buffer[: os.readv(number, (buffer,))])
            except BlockingIOError:
                continue
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass
    return b""
