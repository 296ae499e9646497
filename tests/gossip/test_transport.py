"""Real datagrams, on the loopback."""

from __future__ import annotations

import random

import pytest
import trio
import trio.lowlevel

from gossip.config import SwimConfig
from gossip.driver import Membership
from gossip.effects import Event
from gossip.messages import Member, NodeId, Status
from gossip.swim import Swim
from gossip.transport import OUTBOX_LIMIT, UdpTransport, Unreachable, open_udp
from tests.gossip.world import CLUSTER


def address(transport: UdpTransport) -> str:
    host, port = transport._socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_arrive_with_their_senders_address(host: str) -> None:
    try:
        one, two = await open_udp(host, 0), await open_udp(host, 0)
    except OSError:
        pytest.skip(f"no {host} here")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        nursery.start_soon(two.run)
        with trio.fail_after(5):
            one.send(address(two), b"hello")
            sender, data = await two.receive()
            assert (sender, data) == (address(one), b"hello")
            two.send(sender, b"and back")
            assert await one.receive() == (address(two), b"and back")
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_sent_is_dropped_and_counted() -> None:
    one, two = await open_udp("127.0.0.1", 0), await open_udp("127.0.0.1", 0)
    for _ in range(OUTBOX_LIMIT + 3):
        two.send(address(one), b"x")
    assert two.dropped == 3
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        for bad in ("no port", "127.0.0.1:0", "127.0.0.1:notaport", "[::1]:1", "a..b:1", ":"):
            one.send(bad, b"x")
        one.send(address(two), b"too long" * 10_000)
        one.send(address(two), b"still here")
        with trio.fail_after(10):
            assert await two.receive() == (address(one), b"still here")
        nursery.cancel_scope.cancel()
    assert one.dropped >= 6
    two._socket.close()


async def test_a_port_in_use_is_an_error() -> None:
    one = await open_udp("127.0.0.1", 0)
    with one._socket, pytest.raises(OSError, match="in use"):
        await open_udp("127.0.0.1", int(address(one).rpartition(":")[2]))


async def test_three_nodes_meet_and_one_says_goodbye() -> None:
    members: dict[str, Membership] = {}
    changed = trio.Event()

    async def exchange(to: str, state: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if to not in members:
            raise Unreachable
        return members[to].answer(state)

    def tell(event: Event) -> None:
        nonlocal changed
        changed.set()
        changed = trio.Event()

    async def until_all_see(count: int) -> None:
        with trio.fail_after(10):
            while any(
                sum(status is Status.ALIVE for _, status in m.swim.members()) != count
                for m in members.values()
            ):
                await changed.wait()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            udp = await open_udp("127.0.0.1", 0)
            me = Member(NodeId(bytes([number] * 8)), f"n{number}", address(udp))
            known = list(members)
            swim = Swim(
                *(SwimConfig.local(), me, random.Random(number), trio.current_time()),
                cluster=CLUSTER,
                known=known,
            )
            members[me.address] = Membership(swim, udp, exchange, tell)
        for member in members.values():
            await nursery.start(member.run)
        await until_all_see(3)
        _, last = members.popitem()
        await last.stop()
        await until_all_see(2)
        nursery.cancel_scope.cancel()
