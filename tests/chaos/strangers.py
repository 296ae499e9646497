"""Clients that do not behave: idle by the thousand, slow, talking nonsense."""

from __future__ import annotations

import random
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from dmqnode.messages import Receive
from tests.plain_client import PlainClient

IDLE = 10_000
"""Connections that say nothing."""


def _dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)


@contextmanager
def idle(address: str, count: int) -> Iterator[int]:
    """Keep so many connections open and silent, as far as the system lets us; gives how many there are."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        opened = 0
        for _ in range(count):
            try:
                stack.enter_context(_dial(address))
            except OSError:
                break
            opened += 1
        yield opened


def thousands_idle(address: str, rng: random.Random) -> None:
    with idle(address, IDLE) as opened:
        assert opened == IDLE, f"this machine lets us have {opened} connections, not {IDLE}"
        time.sleep(2)


def garbage(address: str, rng: random.Random) -> None:
    for _ in range(50):
        try:
            with _dial(address) as stream:
                start = rng.choice((b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x00\x05"))
                stream.sendall(start + rng.randbytes(rng.randrange(2000)))
                stream.settimeout(0.2)
                stream.recv(1000)
        except OSError:
            pass


def oversized(address: str, rng: random.Random) -> None:
    for size in ((1 << 32) - 1, 1 << 30, 17 << 20):
        try:
            with _dial(address) as stream:
                stream.sendall(size.to_bytes(4, rng.choice(("big", "little"))))
                for _ in range(20):
                    stream.sendall(bytes(1 << 20))
        except OSError:
            pass


def slow_reader(address: str, rng: random.Random) -> None:
    """Take messages, again and again, and read none of them."""
    with ExitStack() as stack:
        try:
            for _ in range(10):
                deaf = stack.enter_context(PlainClient(address, receive_buffer=4096))
                for _ in range(20):
                    deaf.start(Receive("plain", 50, 1 << 20, 0.0, 1.0))
        except OSError:
            pass  # given up by the node, or not let in
        time.sleep(rng.uniform(1, 3))


KINDS: dict[str, Callable[[str, random.Random], None]] = {
    "10,000 idle connections": thousands_idle,
    "garbage": garbage,
    "oversized frames": oversized,
    "slow reader": slow_reader,
}
