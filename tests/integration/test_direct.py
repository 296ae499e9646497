"""Clients that go to leaders directly: with real nodes, one of which is killed, and where they cannot."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio

import dmqnode
from dmqnode.batch import parse
from dmqnode.blocking import SyncClient, connect_sync
from dmqnode.connection import Connection
from dmqnode.ids import LogId, PartitionId
from dmqnode.messages import Failed, Hello, Leads, Message, Send, Stored, Welcome
from tests.clusters import create, leader
from tests.processes import NodeProcess

pytestmark = pytest.mark.slow
PARTITION = PartitionId(b"P" * 8 + bytes(2))
SOON = 2.0
"""Seconds that some sends take at most if nothing stands in their way, on a busy machine."""


# --- nodes as a test wants them --------------------------------------------------------------------------


class Scripted:
    """A node that stores sends, and says who leads.

    Arguments:
        leads: the address that it names.
        mute: it says nothing after its Welcome.
    """

    def __init__(self, name: str, *, leads: str | None = None, mute: bool = False) -> None:
        self.name = name
        self.leads = leads
        self.mute = mute
        self.bodies: list[bytes] = []
        self.seen: list[bytes] = []
        self._known: set[tuple[bytes, int]] = set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._door, *self._connections):
            with ExitStack() as stack:
                stack.callback(each.close)
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._door.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _welcome(self, hello: Hello) -> Welcome | Failed:
        return Welcome(1, "dmq", self.name, [], 16 << 20, 4 << 20, 15.0)

    def _serve(self, connection: socket.socket) -> None:
        protocol = Connection.server(self._welcome, 16 << 20, 0.0)
        try:
            while data := connection.recv(1 << 20):
                welcomed = protocol.hello is not None
                for number, message in protocol.receive_data(0.0, data):
                    self._answer(protocol, number, message)
                if not (self.mute and welcomed):
                    connection.sendall(protocol.data_to_send())
        except OSError:
            pass

    def _answer(self, protocol: Any, number: int, message: Message) -> None:
        assert isinstance(message, Send), message
        batch = parse(message.batch)
        self.seen += batch.bodies()
        if self.mute:
            return
        if (message.producer, message.sequence) not in self._known:
            self._known.add((message.producer, message.sequence))
            self.bodies += batch.bodies()
        if self.leads is not None:
            protocol.send(0, Leads("q", PARTITION, 1, "leader", self.leads))
        protocol.send(number, Stored([(LogId(b"L" * 20), 0, batch.count)], 0))


@contextmanager
def scripted(name: str, **options: Any) -> Iterator[Scripted]:
    node = Scripted(name, **options)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def refusing() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def swallowing() -> Iterator[str]:
    """An address that answers no dial."""
    with socket.socket() as door, ExitStack() as stack:
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(door.getsockname())
        yield f"127.0.0.1:{door.getsockname()[1]}"


def send_blocking(address: str, enough: Callable[[int], bool]) -> list[bytes]:
    """Send one message after the other until there are enough; return them."""
    sent: list[bytes] = []
    with connect_sync(address) as client:
        while not enough(len(sent)):
            sent.append(b"%d" % len(sent))
            client.send("q", sent[-1])
    return sent


def send_with_trio(address: str, enough: Callable[[int], bool]) -> list[bytes]:
    sent: list[bytes] = []

    async def send() -> None:
        async with dmqnode.connect(address) as client:
            while not enough(len(sent)):
                sent.append(b"%d" % len(sent))
                await client.send("q", sent[-1])

    trio.run(send)
    return sent


both = pytest.mark.parametrize("send", [send_blocking, send_with_trio])
SendAll = Callable[[str, Callable[[int], bool]], list[bytes]]


@both
@pytest.mark.parametrize("place", [refusing, swallowing])
def test_a_leader_that_cannot_be_reached_costs_nothing(send: SendAll, place: Any) -> None:
    with place() as address, scripted("front", leads=address) as front:
        begun = time.monotonic()
        sent = send(front.address, lambda count: count == 20)
        assert time.monotonic() - begun < SOON / 2  # one dial that hangs would take longer
        assert front.bodies == sent


@both
def test_a_leader_that_falls_silent_is_given_up_and_nothing_is_stored_twice(send: SendAll) -> None:
    with scripted("leader", mute=True) as mute, scripted("front", leads=mute.address) as front:
        begun = time.monotonic()
        sent = send(front.address, lambda _: bool(mute.seen) or time.monotonic() > begun + 20)
        assert mute.seen  # the client went there
        assert 1.0 < time.monotonic() - begun < 3.0 + SOON
        assert front.bodies == sent


@both
def test_a_leader_that_is_reached_gets_the_rest(send: SendAll) -> None:
    with scripted("leader") as there, scripted("front", leads=there.address) as front:
        deadline = time.monotonic() + 20
        sent = send(front.address, lambda _: len(there.bodies) >= 5 or time.monotonic() > deadline)
        assert front.bodies + there.bodies == sent
        assert len(there.bodies) >= 5


def test_who_does_not_want_to_goes_nowhere_else() -> None:
    with scripted("leader") as there, scripted("front", leads=there.address) as front:
        with connect_sync(front.address, direct=False) as client:
            for n in range(5):
                client.send("q", b"%d" % n)
        assert len(front.bodies) == 5
        assert not there.seen


# --- real nodes ------------------------------------------------------------------------------------------


def directly(client: SyncClient | dmqnode.Client) -> list[str]:
    """Return the addresses to which a client goes besides those that it was given."""
    core: Any = client._pump._core if isinstance(client, SyncClient) else client._line._core
    return [address for address, route in core.routes.direct.items() if route.open]


def drained(nodes: list[NodeProcess], queue: str, count: int) -> list[bytes]:
    found: list[bytes] = []
    deadline = time.monotonic() + 30
    with connect_sync(*[n.address for n in nodes]) as client:
        while time.monotonic() < deadline:
            messages = client.receive(queue, max_messages=1000, wait=0.5 if len(found) >= count else 2.0)
            found += [m.body for m in messages]
            if messages:
                client.ack(messages)
            elif len(found) >= count:
                break
    return found


def test_order_and_number_hold_when_the_leader_is_killed_under_a_client_that_went_there(
    three: list[NodeProcess],
) -> None:
    with connect_sync(three[0].address) as client:
        client.create_queue("f", ordering="fifo")
    create(three, "q")
    led = leader(three, "f")
    others = [n for n in three if n is not led]
    sent = [b"%d" % n for n in range(600)]

    async def produce() -> None:
        async with dmqnode.connect(*[n.address for n in others]) as client:
            for at in range(0, 200, 10):
                await client.send_many("f", sent[at : at + 10], group="g")
            assert directly(client) == [led.address]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, led.kill)
                for at in range(200, 600, 4):
                    await client.send_many("f", sent[at : at + 4], group="g")

    trio.run(produce)
    assert drained(others, "f", len(sent)) == sent


def test_a_blocking_client_receives_and_acks_at_the_leader(three: list[NodeProcess]) -> None:
    create(three, "q")
    with connect_sync(three[0].address) as client:
        client.send_many("q", [b"%d" % n for n in range(300)])
    other = next(n for n in three if n is not leader(three, "q"))
    found: list[bytes] = []
    with connect_sync(other.address) as client:
        while messages := client.receive("q", max_messages=20, wait=0.5):
            found += [m.body for m in messages]
            client.ack(messages)
        assert directly(client) == [leader(three, "q").address]
    assert sorted(found, key=int) == [b"%d" % n for n in range(300)]
