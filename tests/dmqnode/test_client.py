"""The trio client against a scripted node over memory streams, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing

from dmqnode.addresses import Dialling
from dmqnode.asking import Asking
from dmqnode.client import Client
from dmqnode.errors import (
    LimitExceeded,
    PartlyFailed,
    QueueNotFound,
    StaleReceipt,
    Unavailable,
    Unknown,
    UsageError,
)
from dmqnode.line import Line
from dmqnode.link import Link
from dmqnode.messages import Ack, Nack, PurgeQueue
from dmqnode.routes import Routes
from tests.dmqnode.answering import HELLO, LOG, PARTITION, TIMEOUT, FakeNode, delivered


class Net:
    """Dials lead to scripted nodes; `refusing` lets them fail."""

    def __init__(self) -> None:
        self.nodes: list[FakeNode] = []
        self.dials: list[float] = []
        self.refusing = False
        self._dialled = trio.Event()
        self.far: list[trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream]] = []

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dials.append(trio.current_time())
        if self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        near, far = trio.testing.memory_stream_pair()
        self.far.append(far)
        self.nodes.append(FakeNode(trio.current_time()))
        self._dialled.set()
        return near

    @property
    def node(self) -> FakeNode:
        """The node of the latest connection."""
        return self.nodes[-1]

    async def flush(self) -> None:
        """Let the node write its answers."""
        data = self.node.connection.data_to_send()
        if data:
            await self.far[-1].send_all(data)

    async def request(self, connections: int = 0) -> tuple[int, object]:
        """Return the next request of the latest connection, once there were more than `connections`."""
        while len(self.nodes) <= connections or not self.node.requests:
            while len(self.nodes) <= connections:
                self._dialled = trio.Event()
                await self._dialled.wait()
            far, node = self.far[-1], self.node
            with trio.move_on_after(0.05):
                data = await far.receive_some()
                node.receive(trio.current_time(), bytes(data))
            if node is self.node:
                await self.flush()
        return self.node.requests[0]

    async def hang_up(self) -> None:
        await self.far[-1].aclose()


@asynccontextmanager
async def client_of(net: Net) -> AsyncIterator[Client]:
    link = Link(HELLO, Dialling(["a:1"], lambda: 1.0))
    async with Client(
        Line(Asking(Routes(link, None, lambda: 1.0), b"p" * 16, TIMEOUT, lambda: 1.0), net.dial)
    ) as client:
        yield client


async def test_send_returns_the_id(autojump_clock: trio.testing.MockClock) -> None:
    net, ids = Net(), []

    async def send() -> None:
        ids.append(await client.send("q", b"a", attributes={"k": "v"}))

    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await net.request()
        net.node.store()
        await net.flush()
    assert len(ids) == 1
    assert ids[0].endswith("-0")


async def test_many_tasks_share_one_request(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    ids: dict[int, str] = {}

    async def send(n: int) -> None:
        ids[n] = await client.send("q", b"%d" % n)

    async with client_of(net) as client, trio.open_nursery() as nursery:
        for n in range(64):
            nursery.start_soon(send, n)
        await net.request()
        net.node.store()
        await net.flush()
    assert len(ids) == 64
    for n, id_ in ids.items():
        assert net.node.bodies[int(id_.rpartition("-")[2])] == b"%d" % n


async def test_a_lost_connection_is_replaced_and_the_send_repeated(
    autojump_clock: trio.testing.MockClock,
) -> None:
    net = Net()
    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, "q", b"a")
        _, first = await net.request()
        net.refusing = True
        await net.hang_up()
        await trio.sleep(3)
        assert len(net.dials) > 3
        net.refusing = False
        connections = len(net.nodes)
        _, again = await net.request(connections)
        assert again == first
        net.node.store()
        await net.flush()


async def test_dials_back_off(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, "q", b"a")
        await net.request()
        net.node.store()
        await net.flush()
        await trio.sleep(2)
        net.refusing = True
        await net.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        with pytest.raises(Unavailable, match="connection refused"):
            await client.send("q", b"b")
        assert trio.current_time() - start == pytest.approx(TIMEOUT, abs=0.1)
    pauses = [b - a for a, b in pairwise(net.dials[1:])]
    assert pauses[:6] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6], rel=0.6)
    assert max(pauses) <= 2.01


async def test_no_node_is_told_soon(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    net.refusing = True
    start = trio.current_time()
    async with client_of(net) as client:
        with pytest.raises(Unavailable, match="is one running there"):
            await client.send("q", b"a")
    assert trio.current_time() - start < 4


async def test_no_answer_is_unknown(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(net.request)
        with pytest.raises(Unknown):
            await client.send("q", b"a")


async def test_errors_come_out_of_the_block_as_they_are(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()

    async def refuse() -> None:
        await net.request()
        net.node.refuse("queue-not-found")
        await net.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(QueueNotFound):
            async with client_of(net) as client:
                await client.send("q", b"a")


async def test_a_cancelled_receive_gives_back_what_comes(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    async with client_of(net) as client, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_asked, net, scope)
            await client.receive("q")
        number, _ = await net.request()
        await trio.testing.wait_all_tasks_blocked()
        net.node.answer(number, delivered(b"a"))
        net.node.requests.pop(0)
        await net.flush()
        _, nack = await net.request()
        assert nack == Nack([(PARTITION, 7, LOG, 0, 1)], 0.0, False, "")
        net.node.settle()
        await net.flush()


async def cancel_when_asked(net: Net, scope: trio.CancelScope) -> None:
    await net.request()
    scope.cancel()


async def test_leaving_gives_back_even_when_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    nacks: list[object] = []

    async def node() -> None:
        number, _ = await net.request()
        scope.cancel()
        await trio.sleep(0.1)
        net.node.requests.pop(0)
        net.node.answer(number, delivered(b"a"))
        await net.flush()
        nacks.append((await net.request())[1])
        net.node.settle()
        await net.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node)
        with trio.CancelScope() as scope:
            async with client_of(net) as client:
                await client.receive("q")
        assert scope.cancelled_caught
    assert isinstance(nacks[0], Nack)


async def test_an_ack_that_was_refused_with_certainty_is_not_doubted_because_it_is_looked_at_closely(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each message of a range is asked for again, as a repetition, which may know less."""
    net = Net()

    async def node() -> None:
        number, _ = await net.request()
        net.node.requests.pop(0)
        net.node.answer(number, delivered(b"a", b"b"))
        await net.flush()
        await net.request()
        net.node.settle((0, "stale-receipt", "2 of 2 messages: its visibility ended"))
        await net.flush()
        await net.request()
        net.node.settle((0, "unknown", "perhaps"), (1, "unknown", "perhaps"))
        await net.flush()

    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(node)
        messages = await client.receive("q", max_messages=10)
        with pytest.raises(PartlyFailed) as failed:
            await client.ack(messages)
        assert [type(why) for _, why in failed.value.failures] == [StaleReceipt, StaleReceipt]


async def test_ack_names_ranges_and_says_which_failed(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    asked: list[object] = []

    async def node() -> None:
        number, _ = await net.request()
        net.node.requests.pop(0)
        net.node.answer(number, delivered(b"a", b"b", b"c"))
        await net.flush()
        asked.append((await net.request())[1])
        net.node.settle((0, "stale-receipt", "1 of 3 messages: gone"))
        await net.flush()
        asked.append((await net.request())[1])
        net.node.settle((1, "stale-receipt", "gone"))
        await net.flush()

    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(node)
        messages = await client.receive("q", max_messages=10)
        assert [m.body for m in messages] == [b"a", b"b", b"c"]
        with pytest.raises(PartlyFailed) as failed:
            await client.ack(messages)
    assert [at for at, _ in failed.value.failures] == [1]
    assert isinstance(failed.value.failures[0][1], StaleReceipt)
    assert asked[0] == Ack([(PARTITION, 7, LOG, 0, 3)])
    assert asked[1] == Ack([(PARTITION, 7, LOG, n, 1) for n in range(3)], True)


async def test_a_stream_is_pipelined_and_ends_where_an_error_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    net = Net()
    ids: list[str] = []

    async def node() -> None:
        await net.request()
        net.node.store()
        await net.flush()
        await net.request()
        net.node.refuse("too-large")
        await net.flush()

    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(node)
        with pytest.raises(LimitExceeded):
            await collect(client.send_stream("q", [b"x" * 30_000] * 6), ids)
    assert len(ids) == 2


async def collect(stream: AsyncIterator[list[str]], ids: list[str]) -> None:
    async for some in stream:
        ids += some


async def test_what_cannot_be_is_not_sent(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()
    async with client_of(net) as client:
        with pytest.raises(UsageError, match="a body is bytes"):
            await client.send("q", "text")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="max_messages"):
            await client.receive("q", max_messages=0)
        with pytest.raises(UsageError, match="not a receipt"):
            await client.ack("nonsense")
    with pytest.raises(UsageError, match="closed"):
        await client.send("q", b"a")
    assert not net.dials


async def test_an_unanswered_purge_is_not_repeated(autojump_clock: trio.testing.MockClock) -> None:
    net = Net()

    async def node() -> None:
        _, request = await net.request()
        assert request == PurgeQueue("q")
        await net.hang_up()

    async with client_of(net) as client, trio.open_nursery() as nursery:
        nursery.start_soon(node)
        with pytest.raises(Unknown):
            await client.purge_queue("q")
