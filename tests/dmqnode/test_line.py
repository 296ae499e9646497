"""Tasks that wait on one client: each is woken, once, whatever the others do; against a scripted node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager

import pytest
import trio
import trio.testing

from dmqnode import asking
from dmqnode.client import Client, connect
from dmqnode.errors import DMQError, LimitExceeded, PartlyFailed, Unknown, UsageError
from dmqnode.lanes import UNDER_WAY
from dmqnode.line import Line
from dmqnode.messages import (
    Cancelled,
    Done,
    Failed,
    GetQueue,
    Nack,
    QueueInfo,
    Receive,
    Redrive,
    Send,
    Settled,
)
from dmqnode.outgoing import BATCH_MESSAGES, Outgoing
from tests.dmqnode.answering import FakeNode, delivered
from tests.dmqnode.test_client import Net, client_of, collect


class Answering:
    """A node that answers at once: sends until `stores` are stored, redrives once; receives from `left`."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.stores = 10**6
        self.sends = 0
        self.left: list[bytes] = []
        self.moved: list[int] = []
        self.nacked: list[int] = []
        self.asked = trio.Event()

    async def run(self) -> None:
        while not self.net.nodes:
            await trio.testing.wait_all_tasks_blocked()
        node, far = self.net.node, self.net.far[-1]
        while data := bytes(await far.receive_some()):
            node.receive(trio.current_time(), data)
            for _ in range(len(node.requests)):
                self.respond(node)
            await self.net.flush()

    def respond(self, node: FakeNode) -> None:
        self.asked.set()
        number, request = node.take()
        match request:
            case Send():
                node.requests.insert(0, (number, request))
                self.sends += 1
                if self.sends > self.stores:
                    node.refuse("limit")
                else:
                    node.store()
            case GetQueue(queue):
                node.answer(number, QueueInfo({"name": queue}))
            case Redrive() if self.moved:
                node.answer(number, Done(self.moved.pop(), True))
            case Redrive():
                node.answer(number, Failed("not-authorized", "no more of this", False))
            case Receive() if number in node.cancelled:
                node.answer(number, Cancelled())
            case Receive() if self.left:
                node.answer(number, delivered(self.left.pop(0), first=len(self.left)))
            case Nack(held):
                self.nacked += [low for _, _, _, low, _ in held]
                node.answer(number, Settled([]))
            case _:
                node.requests.append((number, request))


@asynccontextmanager
async def answered() -> AsyncIterator[tuple[Client, Answering]]:
    net = Net()
    node = Answering(net)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        async with client_of(net) as client:
            yield client, node
        nursery.cancel_scope.cancel()


def line_of(client: Client) -> Line:
    return client._line


# --- waking ----------------------------------------------------------------------------------------------


async def test_an_answer_may_come_in_the_turn_in_which_its_task_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    net = Net()
    async with client_of(net) as client, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def answer() -> None:
                number, _ = await net.request()
                await trio.testing.wait_all_tasks_blocked()
                net.node.take()
                net.node.answer(number, delivered(b"a"))
                data = net.node.connection.data_to_send()
                line, now = line_of(client), trio.current_time()
                scope.cancel()
                line._core.receive_data(now, data, line._core.home)
                line._hand_out()

            nursery.start_soon(answer)
            await client.receive("q")
        assert scope.cancelled_caught
        _, given_back = await net.request()
        assert isinstance(given_back, Nack)
        net.node.settle()
        await net.flush()


async def test_all_who_wait_for_room_get_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_BYTES", 1000)
    ids: list[str] = []

    async def send(n: int) -> None:
        ids.append(await client.send("q", b"%d" % n * 600))

    with trio.fail_after(60):
        async with answered() as (client, _), trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(send, n)
    assert len(set(ids)) == 20


async def test_room_is_there_too_once_those_who_took_it_have_left(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_BYTES", 1000)
    net = Net()
    with trio.fail_after(60):
        async with client_of(net) as client, trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(client.send, "q", b"behind it" * 200)
                nursery.start_soon(cancel_once_asked, net, scope)
                await client.send("q", b"x" * 2000)
            assert scope.cancelled_caught
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2):
                await net.request()
                net.node.store()
                await net.flush()


async def test_what_is_withdrawn_before_it_left_makes_room(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_BYTES", 1000)
    net = Net()
    with trio.fail_after(5):
        async with client_of(net) as client, trio.open_nursery() as nursery:
            for _ in range(UNDER_WAY):
                nursery.start_soon(client.send, "q", b"x")
                await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:

                async def leave() -> None:
                    nursery.start_soon(client.queue, "q")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()

                nursery.start_soon(leave)
                await client.send("q", b"x" * 2000)  # which waits for those under way
            await trio.testing.wait_all_tasks_blocked()
            await net.request()
            assert [type(request) for _, request in net.node.requests] == [Send] * UNDER_WAY + [GetQueue]
            nursery.cancel_scope.cancel()


async def cancel_once_asked(net: Net, scope: trio.CancelScope) -> None:
    await net.request()
    scope.cancel()


# --- closing ---------------------------------------------------------------------------------------------


async def error_of(call: Callable[[], Awaitable[object]], errors: list[Exception]) -> None:
    try:
        await call()
    except DMQError as error:
        errors.append(error)


async def test_calls_end_when_the_block_of_their_client_does(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MAX_BYTES", 1000)
    net = Net()
    receiving: list[Exception] = []
    sending: list[Exception] = []
    without_room: list[Exception] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, client_of(net) as client:
            nursery.start_soon(error_of, lambda: client.receive("q", wait=2), receiving)
            nursery.start_soon(error_of, lambda: client.send("q", b"x" * 2000), sending)
            await net.request()
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(error_of, lambda: client.send("q", b"x"), without_room)
            await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in receiving + sending + without_room] == [UsageError, Unknown, UsageError]
    with pytest.raises(UsageError, match="closed"):
        await client.queues()


async def test_calls_that_reach_nobody_end_with_the_client_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    net = Net()
    net.refusing = True
    errors: list[Exception] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, client_of(net) as client:
            nursery.start_soon(error_of, lambda: client.send("q", b"x"), errors)
            await trio.testing.wait_all_tasks_blocked()
    (error,) = errors
    assert isinstance(error, UsageError)
    assert "closed" in str(error)


async def test_a_client_outside_of_its_block_says_so(autojump_clock: trio.testing.MockClock) -> None:
    client = connect("127.0.0.1:1")
    for call in (client.queues, lambda: client.send("q", b"x"), lambda: client.receive("q")):
        with pytest.raises(UsageError, match="async with"), trio.fail_after(5):
            await call()


# --- one task's mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake",
    [
        lambda client: client.send("q", b"x", attributes={"k": "\udcff"}),
        lambda client: client.send("q\udcff", b"x"),
        lambda client: client.send(5, b"x"),
        lambda client: client.send("q", b"x", delay="5"),
        lambda client: client.send("q", b"x", delay=float("nan")),
        lambda client: client.send_many("q\udcff", [b"x"]),
        lambda client: client.receive("q", holder="\udcff"),
        lambda client: client.receive("q", visibility="30"),
        lambda client: client.receive("q", max_messages=1.5),
        lambda client: client.receive("q", max_messages="1"),
        lambda client: client.receive("q", wait="1"),
        lambda client: client.create_queue("q", visibility=object()),
        lambda client: client.set_queue("q", delay=float("nan")),
        lambda client: client.queue(5),
        lambda client: client.browse("q", limit="5"),
        lambda client: client.redrive("q", limit="5"),
    ],
)
async def test_what_one_task_gives_does_not_harm_the_others(
    mistake: Callable[[Client], Awaitable[object]], autojump_clock: trio.testing.MockClock
) -> None:
    async with answered() as (client, node):
        with pytest.raises(UsageError):
            await mistake(client)
        assert await client.queue("q") == {"name": "q"}
        assert len(node.net.nodes) == 1


async def test_what_cannot_be_written_all_the_same_fails_alone(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "check_request", lambda request: None)
    monkeypatch.setattr(asking, "check_send", lambda *lane: None)
    async with answered() as (client, node):
        for call in (
            lambda: client.queue("\udcff"),
            lambda: client.send("\udcff", b"x"),
            lambda: client.create_queue("q", visibility=object()),
        ):
            with pytest.raises(UsageError, match="cannot be written"):
                await call()
        await line_of(client).send(("q", None, False), b"good", {"a": {"k": "v"}})
        with pytest.raises(UsageError, match="cannot be written"):
            await line_of(client).send(("q", None, False), b"bad", {"a": {"k": "\udcff"}})
        assert await client.queue("q") == {"name": "q"}
        assert len(node.net.nodes) == 1


# --- streams ---------------------------------------------------------------------------------------------

GOOD = 6 * BATCH_MESSAGES


def with_a_mistake() -> Iterator[bytes | Outgoing]:
    yield from [b"x"] * GOOD
    yield Outgoing(b"x", ttl=-1)
    yield from [b"behind it"] * 10


async def test_a_message_that_cannot_be_behind_many_that_are_stored_is_a_part_that_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with answered() as (client, node):
        with pytest.raises(
            PartlyFailed, match=f"1 of {GOOD + 1} .* none behind them was sent: ttl"
        ) as failed:
            await client.send_many("q", with_a_mistake())
        assert [at for at, _ in failed.value.failures] == [GOOD]
        assert len(node.net.node.bodies) == GOOD
        ids: list[str] = []
        with pytest.raises(PartlyFailed) as failed:
            await collect(client.send_stream("q", with_a_mistake()), ids)
        assert [at for at, _ in failed.value.failures] == [len(ids)] == [GOOD]
        with pytest.raises(UsageError, match="body is bytes"):
            await client.send_many("q", [b"x", "text"])  # type: ignore[list-item]
        assert len(node.net.node.bodies) == 2 * GOOD


async def test_what_was_refused_before_a_mistake_is_told_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with answered() as (client, node):
        node.stores = 1
        with pytest.raises(PartlyFailed) as failed:
            await client.send_many("q", [*[b"x" * 100] * 2000, "text"])  # type: ignore[list-item]
        kinds = [type(why) for _, why in failed.value.failures]
        assert kinds == [LimitExceeded] * (len(kinds) - 1) + [UsageError]
        assert failed.value.failures[-1][0] == 2000


async def test_what_has_come_goes_back_if_a_stream_cannot_go_on(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answered() as (client, node):
        node.left = [b"a", b"b"]
        async with aclosing(client.receive_stream("q")) as stream:
            (first,) = await anext(stream)
            monkeypatch.setattr(asking, "MAX_CALLS", -1)
            with trio.move_on_after(1) as scope:
                await anext(stream)
            assert scope.cancelled_caught
        monkeypatch.undo()
        await client.queue("q")
        assert first.body == b"a"
        assert node.nacked == [0]


async def test_a_redrive_that_ends_early_says_what_it_has_moved(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with answered() as (client, node):
        node.moved = [4096]
        with pytest.raises(PartlyFailed, match="4096 messages were moved, and then: no more"):
            await client.redrive("dead")
