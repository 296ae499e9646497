"""Reading from a connection with as few calls as it takes."""

from __future__ import annotations

import os

import trio


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
            try:
                return os.read(number, size)
            except BlockingIOError:
                continue
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass
    return b""
