"""The adapter between a node and its gossip, on links and datagrams of memory."""

from __future__ import annotations

import logging
from random import Random

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from dmqnode.gossiping import Gossiping
from dmqnode.greetings import GossipAnswer, GossipAsk
from dmqnode.ids import NodeId
from dmqnode.logs import log
from dmqnode.messages import Blob, Message, Ping
from dmqnode.peerlink import Self
from dmqnode.roster import Member, Roster
from gossip.messages import first_incarnation

CLUSTER, KEY = b"c" * 16, b"k" * 32
NAMES = ("n1", "n2", "n3")
SOON = 10.0


def node_id(name: str) -> NodeId:
    return NodeId(name.encode().ljust(8, b"-"))


def address_of(name: str) -> str:
    return f"{name}:7367"


def member(name: str, address: str = "") -> Member:
    return Member(node_id(name), name, address or address_of(name))


ROSTER = Roster(1, tuple(map(member, NAMES)))


class Net:
    """Datagrams and links between all nodes; each can be cut."""

    def __init__(self) -> None:
        self.nodes: dict[str, Gossiping] = {}
        self.scopes: dict[str, trio.CancelScope] = {}
        self.inboxes: dict[str, trio.MemorySendChannel[tuple[str, bytes]]] = {}
        self.links: set[frozenset[str]] = set()
        self.udp = True
        self.asked = 0
        self.silent = False
        """Whether asks get lost."""

    def link(self, one: str, other: str) -> None:
        self.links.add(frozenset((one, other)))
        for a, b in ((one, other), (other, one)):
            self.nodes[a].met(node_id(b))

    def cut(self, one: str, other: str) -> None:
        self.links.discard(frozenset((one, other)))
        for a, b in ((one, other), (other, one)):
            if a in self.nodes:
                self.nodes[a].gone(node_id(b))

    def kill(self, name: str) -> None:
        self.scopes.pop(name).cancel()
        del self.nodes[name], self.inboxes[name]
        for other in list(self.nodes):
            self.cut(name, other)

    def status(self, at: str, of: str) -> str | None:
        return self.nodes[at].status(node_id(of))

    async def until(self, at: str, of: str, wanted: str | None) -> None:
        with trio.fail_after(SOON):
            while self.status(at, of) != wanted:  # noqa: ASYNC110
                await trio.sleep(0.01)


class MemoryLinks:
    """The links of one node."""

    def __init__(self, net: Net, own: str) -> None:
        self._net = net
        self._own = own

    def at(self, address: str) -> NodeId | None:
        name = address.partition(":")[0]
        return node_id(name) if frozenset((self._own, name)) in self._net.links else None

    def send(self, node: NodeId, message: Message) -> None:
        self._net.asked += isinstance(message, GossipAsk)
        name = node.rstrip(b"-").decode()
        if self._net.silent or frozenset((self._own, name)) not in self._net.links:
            return
        trio.lowlevel.current_trio_token().run_sync_soon(
            lambda: self._net.nodes[name].hear(node_id(self._own), message)
        )

    def flush(self) -> None:
        """Nothing waits."""


class MemoryDatagrams:
    """The socket of one node."""

    def __init__(self, net: Net, own: str) -> None:
        self._net, self._own = net, own
        net.inboxes[own], self._inbox = trio.open_memory_channel[tuple[str, bytes]](1000)

    async def run(self) -> None:
        """Nothing waits."""

    def send(self, address: str, data: bytes) -> None:
        inbox = self._net.inboxes.get(address.partition(":")[0])
        if inbox is not None and self._net.udp:
            inbox.send_nowait((address_of(self._own), data))

    async def receive(self) -> tuple[str, bytes]:
        return await self._inbox.receive()


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, "dmq")
    return caplog


async def start(
    net: Net,
    nursery: trio.Nursery,
    name: str,
    *,
    boot: int = 1,
    roster: Roster = ROSTER,
    key: bytes = KEY,
    address: str = "",
    taken: bool = False,
) -> Gossiping:
    """Start the gossip of one node; with `taken` another program has its port."""

    async def open_datagrams(host: str, port: int) -> MemoryDatagrams:
        if taken:
            raise OSError(98, "Address already in use")
        return MemoryDatagrams(net, host)

    address = address or address_of(name)
    me = Self(node_id(name), boot, 0, CLUSTER, "dmq", key, name, address, "0")
    node = Gossiping(
        me, member(name, address), MemoryLinks(net, name), Random(name + address), (), open_datagrams
    )
    node.follow(roster)
    net.nodes[name] = node

    async def run() -> None:
        with trio.CancelScope() as net.scopes[name]:
            await node.run(address_of(name))

    nursery.start_soon(run)
    with trio.fail_after(SOON):
        while node.status(node_id(name)) is None:  # noqa: ASYNC110
            await trio.sleep(0.001)
    return node


async def start_three(net: Net, nursery: trio.Nursery) -> None:
    for name in NAMES:
        await start(net, nursery, name)
    for one, other in (("n1", "n2"), ("n1", "n3"), ("n2", "n3")):
        net.link(one, other)
    for one in NAMES:
        for other in NAMES:
            await net.until(one, other, "alive")


async def test_a_link_that_comes_up_makes_both_known_at_once(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        await start(net, nursery, "n1")
        await start(net, nursery, "n2")
        assert net.status("n1", "n2") is None
        await trio.sleep(5)
        assert net.status("n1", "n2") is None
        at = trio.current_time()
        net.link("n1", "n2")
        await net.until("n1", "n2", "alive")
        await net.until("n2", "n1", "alive")
        assert trio.current_time() - at < 0.1
        nursery.cancel_scope.cancel()


async def test_a_death_is_known_soon_and_a_restart_at_once(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        await start_three(net, nursery)
        at = trio.current_time()
        net.kill("n3")
        await net.until("n1", "n3", "suspect")
        assert trio.current_time() - at < 0.5, "a broken link has the member probed"
        for name in ("n1", "n2"):
            await net.until(name, "n3", "dead")
        assert trio.current_time() - at < 5
        third = await start(net, nursery, "n3", boot=2)
        assert third._membership is not None
        assert third._membership.swim.me.incarnation == first_incarnation(2)
        at = trio.current_time()
        net.link("n1", "n3")
        await net.until("n1", "n3", "alive")
        assert trio.current_time() - at < 0.1
        nursery.cancel_scope.cancel()


async def test_a_broken_link_alone_makes_nobody_suspect(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        await start_three(net, nursery)
        net.cut("n1", "n2")
        for _ in range(100):
            await trio.sleep(0.1)
            assert net.status("n1", "n2") == net.status("n2", "n1") == "alive"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("taken", [False, True])
async def test_without_udp_links_do(
    net: Net, taken: bool, autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        net.udp = False
        await start(net, nursery, "n1", taken=taken)
        await start(net, nursery, "n2")
        net.link("n1", "n2")
        await net.until("n1", "n2", "alive")
        await net.until("n2", "n1", "alive")
        for _ in range(100):
            await trio.sleep(0.1)
            assert net.status("n1", "n2") == net.status("n2", "n1") == "alive"
        assert logged.messages == ["cannot gossip over UDP; the links between members have to do"] * taken
        nursery.cancel_scope.cancel()


async def test_one_that_stops_is_dead_and_one_that_leaves_is_gone(
    net: Net, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        await start_three(net, nursery)
        at = trio.current_time()
        await net.nodes["n2"].farewell(left=False)
        await net.nodes["n3"].farewell(left=True)
        assert net.status("n1", "n2") == "dead"
        assert net.status("n1", "n3") is None
        assert trio.current_time() - at < 0.5
        nursery.cancel_scope.cancel()


async def test_a_forgotten_member_is_gone_for_everybody(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        await start_three(net, nursery)
        net.kill("n3")
        for name in ("n1", "n2"):
            await net.until(name, "n3", "dead")
        net.nodes["n1"].follow(Roster(2, ROSTER.members[:2]))
        for name in ("n1", "n2"):
            await net.until(name, "n3", None)
        nursery.cancel_scope.cancel()


async def test_an_exchange_ends_with_its_link_or_in_time(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        node = await start(net, nursery, "n1")
        await start(net, nursery, "n2")
        net.silent = True
        net.link("n1", "n2")
        await trio.sleep(0.1)
        assert net.asked == 2
        assert node._waiting
        net.cut("n1", "n2")
        await wait_all_tasks_blocked()
        assert not node._waiting
        net.link("n1", "n2")
        await trio.sleep(60)
        assert len(node._waiting) <= 8
        net.cut("n1", "n2")
        net.silent = False
        await trio.sleep(3)
        net.link("n1", "n2")
        await net.until("n1", "n2", "alive")
        nursery.cancel_scope.cancel()


async def test_a_late_answer_and_one_of_another_do_no_harm(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        node = await start(net, nursery, "n1")
        assert node.hear(node_id("n2"), GossipAnswer(77, Blob(b"late")))
        assert node.hear(node_id("n2"), GossipAsk(1, Blob(b"rubbish")))
        assert not node.hear(node_id("n2"), Ping())
        assert net.status("n1", "n2") is None
        nursery.cancel_scope.cancel()


async def test_before_and_after_its_run_it_knows_nothing_and_does_no_harm(net: Net) -> None:
    me = Self(node_id("n1"), 1, 0, CLUSTER, "dmq", KEY, "n1", address_of("n1"), "0")
    node = Gossiping(me, member("n1"), MemoryLinks(net, "n1"), Random(1), ())
    node.follow(ROSTER)
    node.met(node_id("n2"))
    node.gone(node_id("n2"))
    node.follow(Roster(2, ROSTER.members[:1]))
    assert node.hear(node_id("n2"), GossipAsk(1, Blob(b"")))
    assert node.status(node_id("n2")) is None
    await node.farewell(left=False)


async def test_another_key_is_logged_once(
    net: Net, autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        await start(net, nursery, "n1")
        await start(net, nursery, "n2", key=b"x" * 32)
        net.link("n1", "n2")
        await trio.sleep(30)
        assert logged.messages == ["a node and this one cannot gossip"] * 2  # by each of them
        assert net.status("n1", "n2") is None
        nursery.cancel_scope.cancel()


async def test_a_member_at_another_address_is_logged_once(
    net: Net, autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        await start(net, nursery, "n1")
        await start(net, nursery, "n2", address="n2:1")
        net.link("n1", "n2")
        await net.until("n1", "n2", "alive")
        for weight in (2.0, 3.0):
            net.nodes["n2"].follow(Roster(2, (*ROSTER.members[:1], member("n2")._replace(weight=weight))))
            await trio.sleep(10)
        assert logged.messages == ["a member is not where the list of members says"]
        assert vars(logged.records[0])["fields"] == {"member": "n2", "at": "n2:1", "listed": "n2:7367"}
        nursery.cancel_scope.cancel()


async def test_a_twin_is_logged_once(
    net: Net, autojump_clock: MockClock, logged: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        node = await start(net, nursery, "n1")
        twin = await start(Net(), nursery, "n1", address="elsewhere:7367")
        assert twin._membership is not None
        for number in (1, 2):
            state = twin._membership.swim.state_for_push_pull(trio.current_time())
            node.hear(node_id("n2"), GossipAsk(number, Blob(state)))
        assert logged.messages == ["another process uses the id of this node"]
        nursery.cancel_scope.cancel()


async def test_a_new_weight_is_told(net: Net, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        node = await start(net, nursery, "n1")
        node.follow(Roster(2, (member("n1")._replace(weight=0.0), *ROSTER.members[1:])))
        assert node._membership is not None
        assert node._membership.swim.me.weight == 0.0
        nursery.cancel_scope.cancel()
