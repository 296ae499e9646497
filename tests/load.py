"""Clients that send and receive while nodes come and go, and what became of their messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from dmqnode.blocking import SyncClient, connect_sync
from dmqnode.errors import DMQError, Unknown


class Load:
    """One sender per node that prefers it, and one receiver that acks.

    Arguments:
        addresses: of the nodes.
        queue: exists.
        hold: seconds for which the receiver keeps what it has before it acks: something is always in flight.
    """

    def __init__(self, addresses: Sequence[str], queue: str, *, hold: float = 0.0) -> None:
        self._addresses = list(addresses)
        self._hold = hold
        self._queue = queue
        self._stop = threading.Event()
        self.stored: set[bytes] = set()
        self.unknown: dict[bytes, str] = {}
        self.refused: list[str] = []
        self.received: dict[bytes, int] = {}
        self.sent_at: list[float] = []
        self.received_at: list[float] = []
        self._threads = [
            *(threading.Thread(target=self._send, args=(n,)) for n in range(len(self._addresses))),
            threading.Thread(target=self._receive),
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, first: int) -> SyncClient:
        order = self._addresses[first:] + self._addresses[:first]
        client: SyncClient = connect_sync(*order, timeout=15)
        return client

    def _send(self, number: int) -> None:
        with self._client(number) as client:
            count = 0
            while not self._stop.is_set():
                body = b"%d-%d" % (number, count)
                count += 1
                try:
                    client.send(self._queue, body)
                except Unknown as error:
                    self.unknown[body] = str(error)
                except DMQError as error:
                    self.refused.append(str(error))
                else:
                    self.stored.add(body)
                    self.sent_at.append(time.monotonic())
                time.sleep(0.005)

    def _receive(self) -> None:
        with self._client(0) as client:
            while not self._stop.is_set():
                self._take(client, 0.5)

    def _take(self, client: SyncClient, wait: float) -> bool:
        try:
            messages = client.receive(self._queue, max_messages=100, wait=wait, visibility=5)
            for message in messages:
                self.received[message.body] = self.received.get(message.body, 0) + 1
            if messages:
                self.received_at.append(time.monotonic())
                while time.monotonic() < self.received_at[-1] + self._hold:
                    time.sleep(0.01)
                client.ack(messages)
        except DMQError:
            return True  # what was not acked comes again
        return bool(messages)

    def wait_for(self, count: int, seconds: float = 20.0) -> None:
        """Wait until so many more messages were stored and received."""
        stored, received = len(self.stored) + count, len(self.received) + count
        deadline = time.monotonic() + seconds
        while len(self.stored) < stored or len(self.received) < received:
            assert time.monotonic() < deadline, (self.refused[-3:], len(self.stored), len(self.received))
            time.sleep(0.01)

    def drain(self, seconds: float = 20.0) -> None:
        """Receive what is left, after the block."""
        deadline = time.monotonic() + seconds
        with self._client(0) as client:
            while self.stored - self.received.keys() and time.monotonic() < deadline:
                self._take(client, 1.0)

    @property
    def lost(self) -> set[bytes]:
        """What was answered as stored and never came."""
        return self.stored - self.received.keys()

    @property
    def repeated(self) -> int:
        """How many deliveries were not the first of their message."""
        return sum(n - 1 for n in self.received.values())


def made_queue(address: str, fits: Callable[[dict[str, Any]], bool]) -> str:
    """Create queues until the one partition of one is as it should be; return that queue."""
    with connect_sync(address) as client:
        for number in range(50):
            queue = f"made-{number}"
            client.create_queue(queue)
            (partition,) = client.explain(queue)["partitions"]
            if fits(partition):
                return queue
    raise AssertionError("none of 50 queues is so")


def longest_gap(times: Sequence[float], since: float) -> float:
    """Return the longest time without an event, from `since` on, seconds."""
    later = sorted(t for t in times if t >= since)
    return max((b - a for a, b in zip([since, *later], later)), default=float("inf"))
