"""Consuming in virtual time: taking ahead, keeping hidden, giving back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing

from dmqnode.client import Client
from dmqnode.consuming import Consumer
from dmqnode.errors import DMQError, PartlyFailed, QueueNotFound, UsageError
from dmqnode.messages import Ack, Cancelled, Extend, Failed, Message, Nack, Receive, Settled
from tests.dmqnode.answering import FakeNode, delivered
from tests.dmqnode.test_client import Net, client_of


class Queue:
    """A node with one queue for one consumer; `stale` are seqs whose extension it refuses."""

    def __init__(self, net: Net, count: int, visibility: float = 30.0) -> None:
        self.net = net
        self.left = [b"%d" % n for n in range(count)]
        self.visibility = visibility
        self.first = 0
        self.stale: set[int] = set()
        self.code = "stale-receipt"
        self.silent: set[int] = set()
        """Seqs whose extension it does not answer."""
        self.most = 1000
        """Messages of one delivery."""
        self.receives: list[Receive] = []
        self.settled: list[tuple[float, Message]] = []
        self.failure: Failed | None = None

    async def run(self) -> None:
        while not self.net.nodes:
            await trio.testing.wait_all_tasks_blocked()
        node, far = self.net.node, self.net.far[-1]
        while data := bytes(await far.receive_some()):
            node.receive(trio.current_time(), data)
            self.respond(node)
            await self.net.flush()

    def respond(self, node: FakeNode) -> None:
        waiting = []
        for number, request in node.requests:
            if isinstance(request, Receive):
                if number in node.cancelled:
                    node.answer(number, Cancelled())
                elif self.failure is not None and not self.left:
                    node.answer(number, self.failure)
                elif self.left:
                    self.receives.append(request)
                    node.answer(number, self.give(request.max_messages))
                else:
                    waiting.append((number, request))
            else:
                self.settled.append((trio.current_time(), request))
                if not (isinstance(request, Extend) and self.silent & {held[3] for held in request.held}):
                    node.answer(number, Settled(self.refused(request)))
        node.requests = waiting

    def give(self, most: int) -> Message:
        most = min(most, self.most)
        some, self.left = self.left[:most], self.left[most:]
        first, self.first = self.first, self.first + len(some)
        return delivered(*some, first=first, visibility=self.visibility)

    def refused(self, request: Message) -> list[tuple[int, str, str]]:
        assert isinstance(request, Ack | Nack | Extend)
        return [
            (at, self.code, "gone")
            for at, (_, _, _, low, count) in enumerate(request.held)
            if self.stale & set(range(low, low + count))
        ]

    def seqs(self, kind: type[Message]) -> list[tuple[float, list[int]]]:
        """Return (when, which seqs) of each request of a kind."""
        return [
            (at, [n for _, _, _, low, count in r.held for n in range(low, low + count)])  # type: ignore[attr-defined]
            for at, r in self.settled
            if isinstance(r, kind)
        ]


@asynccontextmanager
async def consuming(count: int, visibility: float = 30.0) -> AsyncIterator[tuple[Client, Queue]]:
    net = Net()
    queue = Queue(net, count, visibility)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        async with client_of(net) as client:
            yield client, queue
        nursery.cancel_scope.cancel()


async def test_messages_come_in_order_and_are_acked(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(10) as (client, queue):
        seen = []
        async with client.consume("q", prefetch=4) as stream:
            async for message in stream:
                seen.append(message.body)
                await message.ack()
                if len(seen) == 10:
                    break
    assert seen == [b"%d" % n for n in range(10)]
    assert [n for _, seqs in queue.seqs(Ack) for n in seqs] == list(range(10))
    assert max(r.max_messages for r in queue.receives) == 4
    assert not queue.seqs(Extend)


async def test_what_was_taken_ahead_is_given_back(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(10) as (client, queue):
        async with client.consume("q", prefetch=4) as stream:
            message = await anext(stream)
        await message.ack()
    assert [seqs for _, seqs in queue.seqs(Nack)] == [[1, 2, 3]]
    assert [seqs for _, seqs in queue.seqs(Ack)] == [[0]]


async def test_cancelling_gives_back_too(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(3) as (client, queue):
        with trio.move_on_after(5):
            async with client.consume("q", prefetch=4) as stream:
                message = await anext(stream)
                await trio.sleep_forever()
        assert message.body == b"0"
    assert [seqs for _, seqs in queue.seqs(Nack)] == [[1, 2]]


async def test_visibility_is_extended_while_held_or_waiting(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(3, visibility=10.0) as (client, queue), client.consume("q", prefetch=4) as stream:
        message = await anext(stream)
        await trio.sleep(12)
        assert [seqs for _, seqs in queue.seqs(Extend)] == [[0, 1, 2], [0, 1, 2]]
        await message.ack()
        await trio.sleep(5)
        assert queue.seqs(Extend)[-1][1] == [1, 2]
    times = [at for at, _ in queue.seqs(Extend)]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([5.0, 5.0], abs=0.1)
    assert all(r.visibility == 10.0 for _, r in queue.settled if isinstance(r, Extend))


async def test_what_is_let_go_of_is_extended_no_more(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(1, visibility=10.0) as (client, queue), client.consume("q", prefetch=1) as stream:
        message = await anext(stream)
        assert message.attempt == 1
        await trio.sleep(6)
        assert len(queue.seqs(Extend)) == 1
        del message
        await trio.sleep(20)
        assert len(queue.seqs(Extend)) == 1


async def test_what_others_have_is_not_handed_over(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(4, visibility=10.0) as (client, queue):
        queue.stale = {1, 3}
        async with client.consume("q", prefetch=4) as stream:
            first = await anext(stream)
            await trio.sleep(6)
            second = await anext(stream)
            assert [first.body, second.body] == [b"0", b"2"]
    assert not queue.seqs(Nack)


@pytest.mark.parametrize("count", [6, 7, 10])
async def test_when_all_that_was_taken_ahead_is_lost_more_is_taken(
    count: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with consuming(count, visibility=10.0) as (client, queue):
        async with client.consume("q", prefetch=10) as stream:
            held = await anext(stream)
            queue.stale = set(range(count))  # it was purged
            await trio.sleep(6)
            queue.left, queue.first = [b"new"], 1000
            queue.respond(queue.net.node)
            await queue.net.flush()
            with trio.fail_after(60):
                assert (await anext(stream)).body == b"new"
        assert held.settled


async def test_extensions_do_not_wait_for_one_that_nobody_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with consuming(12, visibility=10.0) as (client, queue):
        queue.most, queue.silent = 1, set(range(8))
        async with client.consume("q", prefetch=20) as stream:
            held = [await anext(stream) for _ in range(12)]
            await trio.sleep(9)
    extended = {seq: at for at, seqs in queue.seqs(Extend) for seq in seqs}
    assert extended.keys() == set(range(12))
    assert len(held) == 12


@pytest.mark.parametrize("code", ["unavailable", "unknown"])
async def test_what_is_not_extended_for_a_moment_is_kept(
    code: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with consuming(4, visibility=10.0) as (client, queue):
        queue.stale, queue.code = {0, 1, 2, 3}, code
        async with client.consume("q", prefetch=4) as stream:
            first = await anext(stream)
            await trio.sleep(6)
            assert queue.seqs(Extend)
            queue.stale = set()
            await trio.sleep(1)
            assert queue.seqs(Extend)[-1][1] == [0, 1, 2, 3]
            began, *_, again = [at for at, _ in queue.seqs(Extend)]
            assert again - began == pytest.approx(1.25), "before the visibility is over"
            with trio.fail_after(5):
                assert [(await anext(stream)).body for _ in range(3)] == [b"1", b"2", b"3"]
    assert first.body == b"0"


async def test_what_an_ack_did_not_reach_is_extended_further(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(3, visibility=10.0) as (client, queue), client.consume("q", prefetch=4) as stream:
        messages = [await anext(stream) for _ in range(3)]
        queue.stale, queue.code = {1}, "unavailable"
        with pytest.raises(PartlyFailed):
            await client.ack(messages)
        assert [m.settled for m in messages] == [True, False, True]
        queue.stale = set()
        await trio.sleep(6)
        assert [seqs for _, seqs in queue.seqs(Extend)] == [[1]]


async def test_errors_come_after_what_was_taken_ahead(autojump_clock: trio.testing.MockClock) -> None:
    async with consuming(2) as (client, queue):
        queue.failure = Failed("queue-not-found", "no such queue", False)
        async with client.consume("q", prefetch=1) as stream:
            assert [(await anext(stream)).body, (await anext(stream)).body] == [b"0", b"1"]
            with pytest.raises(QueueNotFound):
                await anext(stream)


async def test_several_tasks_share_a_consumer(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[bytes] = []

    async with consuming(20) as (client, queue), client.consume("q", prefetch=8) as stream:

        async def work() -> None:
            async for message in stream:
                seen.append(message.body)
                await message.ack()
                if len(seen) == 20:
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(work)
    assert sorted(seen) == sorted(b"%d" % n for n in range(20))
    assert len(queue.settled) <= 20


async def test_a_prefetch_of_nothing_cannot_be(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(Net()) as client:
        with pytest.raises(UsageError, match="prefetch"):
            client.consume("q", prefetch=0)


# --- several tasks that iterate --------------------------------------------------------------------------


async def test_all_who_wait_for_messages_are_woken(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[bytes] = []
    async with consuming(0) as (client, queue), client.consume("q", prefetch=8) as stream:

        async def work() -> None:
            seen.append((await anext(stream)).body)
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
            await trio.sleep(1)
            queue.left = [b"a", b"b", b"c"]
            queue.respond(queue.net.node)
            await queue.net.flush()
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(seen) == [b"a", b"b", b"c"]
            nursery.cancel_scope.cancel()


async def iterate(stream: Consumer, errors: list[DMQError]) -> None:
    try:
        async for _ in stream:
            pass
    except DMQError as error:
        errors.append(error)


async def test_all_who_iterate_hear_of_an_error(autojump_clock: trio.testing.MockClock) -> None:
    errors: list[DMQError] = []
    async with consuming(0) as (client, queue), client.consume("q") as stream:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(iterate, stream, errors)
                await trio.sleep(1)
                queue.failure = Failed("queue-not-found", "no such queue", False)
                queue.respond(queue.net.node)
                await queue.net.flush()
    assert [type(error) for error in errors] == [QueueNotFound] * 3
    assert len({id(error) for error in errors}) == 3


async def test_who_still_iterates_when_the_block_ends_is_told(autojump_clock: trio.testing.MockClock) -> None:
    errors: list[DMQError] = []
    with trio.fail_after(5):
        async with (
            consuming(0) as (client, _),
            trio.open_nursery() as nursery,
            client.consume("q") as stream,
        ):
            for _ in range(2):
                nursery.start_soon(iterate, stream, errors)
            await trio.sleep(1)
    assert [type(error) for error in errors] == [UsageError] * 2
    assert "has ended" in str(errors[0])


async def test_a_consumer_outside_of_its_block_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with client_of(Net()) as client:
        with pytest.raises(UsageError, match="async with"), trio.fail_after(5):
            await anext(client.consume("q"))
