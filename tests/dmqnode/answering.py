"""A node for tests of the client: the server's side of the protocol, answering as each test says."""

from __future__ import annotations

from dmqnode.addresses import Dialling
from dmqnode.asking import Asking, Outcome
from dmqnode.batch import encode, parse
from dmqnode.connection import Connection
from dmqnode.ids import LogId, PartitionId
from dmqnode.leaders import Leaders
from dmqnode.link import Link
from dmqnode.messages import (
    LEADS,
    Cancel,
    Cancelled,
    Delivered,
    Failed,
    Goodbye,
    Hello,
    Leads,
    Message,
    Part,
    Send,
    Settled,
    Stored,
    Welcome,
)
from dmqnode.route import Route
from dmqnode.routes import Routes

LOG = LogId(b"L" * 20)
PARTITION = PartitionId(b"P" * 10)
HELLO = Hello(1, 1, "test:1", "", [], 16 << 20)
TIMEOUT = 10.0
ASKING_FOR_LEADERS = Hello(1, 1, "test:1", "", [LEADS], 16 << 20)
LED = PartitionId(b"P" * 8 + bytes(2))
"""What queue q consists of, in a cluster."""


def delivered(*bodies: bytes, first: int = 0, delivery: int = 7, visibility: float = 30.0) -> Delivered:
    """Return the answer to a receive; without bodies that of an empty queue."""
    if not bodies:
        return Delivered("q", visibility, [])
    part = Part(PARTITION, delivery, LOG, first, len(bodies), 1, 1_000, encode(bodies).blob)
    return Delivered("q", visibility, [part])


class FakeNode:
    """One connection's far side.  Requests are kept until the test answers them, sends if `stores`."""

    def __init__(
        self,
        now: float = 0.0,
        *,
        credit: int = 4 << 20,
        max_frame: int = 16 << 20,
        turn_away: Failed | None = None,
    ) -> None:
        def welcome(hello: Hello) -> Welcome | Failed:
            return turn_away or Welcome(1, "dmq", "a", [], max_frame, credit, 30.0)

        self.connection = Connection.server(welcome, max_frame, now)
        self.requests: list[tuple[int, Message]] = []
        self.cancelled: list[int] = []
        self.bodies: list[bytes] = []
        self._stored = 0

    def receive(self, now: float, data: bytes) -> None:
        """Take bytes from the client."""
        for number, message in self.connection.receive_data(now, data):
            if isinstance(message, Cancel):
                self.cancelled.append(number)
            else:
                self.requests.append((number, message))

    def take(self) -> tuple[int, Message]:
        """Return the oldest request that is not answered, with its number."""
        return self.requests.pop(0)

    def answer(self, number: int, message: Message) -> None:
        self.connection.send(number, message)

    def store(self, *, ordered: bool = False) -> Send:
        """Answer the oldest request, a send: it is stored."""
        number, message = self.take()
        assert isinstance(message, Send)
        batch = parse(message.batch)
        self.bodies += batch.bodies()
        self.answer(number, Stored([(LOG, self._stored, batch.count)], 0, 0, ordered))
        self._stored += batch.count
        return message

    def settle(self, *failed: tuple[int, str, str]) -> Message:
        """Answer the oldest request, an ack, nack or extend."""
        number, message = self.take()
        self.answer(number, Settled(list(failed)))
        return message

    def cancel(self) -> None:
        """Answer the oldest request: it was given up."""
        self.answer(self.take()[0], Cancelled())

    def refuse(self, code: str, *, retryable: bool = False, stored: str = "no") -> Message:
        """Answer the oldest request: it is refused."""
        number, message = self.take()
        self.answer(number, Failed(code, f"refused: {code}", retryable, stored))
        return message

    def leave(self) -> None:
        self.connection.send(0, Goodbye("stopping", "this node is stopping"))


class World:
    """A client's core, the node it is connected to, and the time."""

    def __init__(self, *addresses: str) -> None:
        self.now = 0.0
        dialling = Dialling(addresses or ("a:1",), lambda: 1.0)
        routes = Routes(Link(HELLO, dialling), None, lambda: 1.0)
        self.core = Asking(routes, b"p" * 16, TIMEOUT, lambda: 1.0)
        self.node = FakeNode()
        self.outcomes: list[Outcome] = []

    def connect(self, **options: object) -> None:
        """Let a dial succeed."""
        assert self.core.link.connection is None
        self.core.connected(self.now)
        self.node = FakeNode(self.now, **options)  # type: ignore[arg-type]

    def carry(self) -> None:
        """Bring all bytes to their other side until there are none."""
        while self.core.link.connection is not None:
            there = self.core.data_to_send(self.now)
            if there:
                self.node.receive(self.now, there)
            back = self.node.connection.data_to_send()
            if back:
                self.core.receive_data(self.now, back)
            if not there and not back:
                break
        self.outcomes += self.core.take_outcomes()

    def lose(self) -> None:
        """End the connection."""
        self.core.disconnected(self.now, "it broke")
        self.outcomes += self.core.take_outcomes()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick at every deadline on the way."""
        end = self.now + seconds
        while self.core.next_deadline() <= end:
            self.now = max(self.now, self.core.next_deadline())
            self.core.tick(self.now)
            self.carry()
        self.now = end

    def send(self, body: bytes, owner: object = None, queue: str = "q") -> object:
        return self.core.send(self.now, (queue, None, False), body, {}, owner or body)

    def outcome(self, owner: object) -> tuple[object, Exception | None]:
        """Return (value, error) of the one outcome that `owner` has."""
        found = [(value, error) for who, value, error in self.outcomes if who == owner]
        assert len(found) == 1, f"{owner!r} has {len(found)} outcomes"
        return found[0]

    def has(self, owner: object) -> bool:
        return any(who == owner for who, _, _ in self.outcomes)


class Cluster:
    """A client's core, the nodes it is connected to by route, and the time."""

    def __init__(self, *addresses: str, guarded: bool = False) -> None:
        self.now = 0.0
        link = Link(ASKING_FOR_LEADERS, Dialling(addresses or ("n1:1",), lambda: 1.0))
        self.routes = Routes(link, Leaders(b"p" * 16), lambda: 1.0, guarded=guarded)
        self.core = Asking(self.routes, b"p" * 16, 30.0, lambda: 1.0)
        self.nodes: dict[Route, FakeNode] = {}
        self.outcomes: list[Outcome] = []
        self.connect(self.core.home, "n1")

    def connect(self, route: Route, name: str, cluster: str = "dmq", max_frame: int = 16 << 20) -> FakeNode:
        self.core.connected(self.now, route)
        node = self.nodes[route] = FakeNode(self.now)
        node.connection._welcome = lambda _: Welcome(1, cluster, name, [], max_frame, 4 << 20, 30.0)
        self.carry()
        return node

    @property
    def home(self) -> FakeNode:
        return self.nodes[self.core.home]

    def carry(self) -> None:
        """Bring all bytes to their other side until there are none."""
        moved = True
        while moved:
            moved = False
            self.routes.take_stirred()
            for route, node in list(self.nodes.items()):
                if route.link.connection is None:
                    continue
                there = self.core.data_to_send(self.now, route)
                if there:
                    node.receive(self.now, there)
                back = node.connection.data_to_send()
                if back:
                    self.core.receive_data(self.now, back, route)
                if route.ended and route is not self.core.home:
                    self.lose(route)
                moved = moved or bool(there or back or self.routes.stirred)
        self.outcomes += self.core.take_outcomes()

    def lose(self, route: Route) -> None:
        del self.nodes[route]
        self.core.disconnected(self.now, "it broke", route)
        self.outcomes += self.core.take_outcomes()

    def tell(self, queue: str = "q", *, node: str = "n2", index: int = 0, count: int = 1) -> None:
        """Let the node at home say who leads."""
        partition = PartitionId(LED[:8] + index.to_bytes(2, "big"))
        self.home.connection.send(0, Leads(queue, partition, count, node, f"{node}:1"))
        self.carry()

    def go(self, name: str = "n2") -> tuple[Route, FakeNode]:
        """Let the one new route be dialled, and its node answer."""
        (route,) = self.routes.open_routes(self.now)
        return route, self.connect(route, name)

    def directly(self) -> tuple[Route, FakeNode]:
        """Let the client learn who leads q, and go there."""
        self.tell()
        self.send(b"by home")
        self.carry()
        found = self.go()
        self.home.store()
        self.carry()
        return found

    def send(self, *contents: bytes, queue: str = "q") -> None:
        for body in contents:
            self.core.send(self.now, (queue, None, False), body, {}, body)

    def batch(self, body: bytes, queue: str = "q") -> None:
        self.core.send_batch(self.now, (queue, None, False), encode([body]), body)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.core.next_deadline() <= end:
            self.now = max(self.now, self.core.next_deadline())
            self.core.tick(self.now)
            self.carry()
        self.now = end

    def outcome(self, owner: object) -> tuple[object, Exception | None]:
        found = [(value, error) for who, value, error in self.outcomes if who == owner]
        assert len(found) == 1, f"{owner!r} has {len(found)} outcomes"
        return found[0]


def connected(*addresses: str, **options: object) -> World:
    """Return a world whose client has been welcomed."""
    world = World(*addresses)
    world.connect(**options)
    world.carry()
    return world


def bodies(message: Message) -> list[bytes]:
    """Return the bodies of a send."""
    assert isinstance(message, Send)
    return parse(message.batch).bodies()
