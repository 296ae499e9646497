"""The clients of a world: scripts that send, receive and settle, over connections that can be lost.

A script is a generator: it yields a request and is sent its answer (None: the connection was lost, or it took
too long: whether it was done is unknown), or yields a number of seconds to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from dmqnode.messages import Delivered, Hello, Message, Receive
from tests.simulation.operations import operator
from tests.simulation.workload import consumer, grower, opener, producer

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.world import World

PATIENCE = 9.0
"""Seconds after which a client gives up a connection that does not answer, beyond what it wants to wait."""
Script = Generator["Message | float", "Message | None", None]


class Line:
    """A client's connection to one life of one node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.life = host.life
        self.session: int | None = None
        self.lost = False


class Client:
    """One client: runs a script."""

    def __init__(self, world: World, name: str, script: Script) -> None:
        self.world = world
        self.name = name
        self._script = script
        self.line: Line | None = None
        self._number = 0
        self._waiting = 0
        """The request under way, 0 if none is."""
        self.over = False
        self.near: Callable[[Host], bool] = lambda host: True
        """Which nodes it can reach."""

    def go_on(self, value: Message | None = None) -> None:
        """Run the script to its next wish."""
        if self.over:
            return
        try:
            wish = self._script.send(value)
        except StopIteration:
            self.over = True
            self._hang_up()
            return
        if isinstance(wish, float):
            self.world.after(wish, self.go_on)
        else:
            self._call(wish)

    def _call(self, request: Message) -> None:
        world = self.world
        if self.over:
            return
        if self.line is None or self.line.lost:
            hosts = [h for h in world.hosts.values() if h.up and not h.paused and self.near(h)]
            if not hosts:
                world.after(0.1, lambda: self._call(request))
                return
            self.line = Line(world.rng.choice(hosts))
        self._number += 1
        number = self._waiting = self._number
        line = self.line

        def arrive() -> None:
            host = line.host
            if line.session is None:
                line.session = host.broker.open_session(Hello(1, 1, self.name, "", [], 1 << 24))
                world.clients.sessions[host.me, host.life, line.session] = (self, line)
            world.heard(self.name, host.me, request)
            host.broker.receive(host.now(), line.session, number, request)

        world.after(world.rng.uniform(0.0002, 0.001), lambda: line.host.happen(arrive, line.life))
        patience = PATIENCE + (request.wait if isinstance(request, Receive) else 0.0)

        def give_up() -> None:
            if self._waiting == number:
                self._hang_up()
                self._waiting = 0
                self.go_on(None)

        world.after(patience, give_up)

    def _hang_up(self) -> None:
        line, self.line = self.line, None
        if line is None or line.lost:
            return
        line.lost = True

        def close() -> None:
            if line.session is not None:
                self.world.clients.sessions.pop((line.host.me, line.life, line.session), None)
                line.host.broker.close_session(line.session)

        line.host.happen(close, line.life)

    def broken(self, line: Line) -> None:
        """The node at the other end is dead."""
        if self.line is line and not line.lost:
            line.lost = True
            if self._waiting:
                self._waiting = 0
                self.go_on(None)

    def answered(self, line: Line, number: int, answer: Message) -> None:
        """An answer arrives."""
        if self.line is line and not line.lost and number == self._waiting:
            self._waiting = 0
            self.go_on(answer)


class Clients:
    """All clients."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clients: list[Client] = []
        self.sessions: dict[tuple[bytes, int, int], tuple[Client, Line]] = {}

    @property
    def idle(self) -> bool:
        """Whether all who send are done, and the operators."""
        return all(c.over for c in self._clients if c.name[0] in "po")

    def start(self) -> None:
        """Open the queues, then begin."""
        self._add("opener", opener(self._world, self._begin))

    def _begin(self) -> None:
        world, plan = self._world, self._world.plan
        for queue in plan.queues:
            for n in range(plan.producers if queue.fed else 0):
                name = f"p{queue.name}{n}"
                self._add(name, producer(world, queue, name))
            if queue.grows:
                self._add(f"g{queue.name}", grower(world, queue))
            for n in range(plan.consumers):
                self._add(f"c{queue.name}{n}", consumer(world, queue, whole=False))
            if queue.operations:
                self._add(f"o{queue.name}", operator(world, queue))

    def _add(self, name: str, script: Any) -> None:
        self.add(Client(self._world, name, script))

    def add(self, client: Client) -> None:
        """Let one more client begin."""
        self._clients.append(client)
        client.go_on()

    def finish(self) -> None:
        """Everything is mended: receive what is left."""
        for queue in self._world.plan.queues:
            self._add(f"d{queue.name}", consumer(self._world, queue, whole=True))

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(not c.over for c in self._clients)

    def vanish(self) -> None:
        """All clients go, whatever they wait for."""
        for client in self._clients:
            client.over = True

        def hang_up() -> None:
            for client in self._clients:
                client._hang_up()

        self._world.after(0.01, hang_up)  # what they have asked has arrived

    def answered(self, host: Host, session: int, number: int, answer: Message) -> None:
        """A node answers."""
        found = self.sessions.get((host.me, host.life, session))
        self._world.heard(host.me, found[0].name if found is not None else "nobody", answer)
        if found is None:
            if isinstance(answer, Delivered) and answer.parts:
                host.broker.undelivered(host.now(), answer)
            return
        client, line = found
        world = self._world
        world.after(world.rng.uniform(0.0002, 0.001), lambda: client.answered(line, number, answer))

    def lost(self, host: Host, *, silently: bool) -> None:
        """A node is dead."""
        rng = self._world.rng
        for key in [k for k in self.sessions if k[0] == host.me]:
            client, line = self.sessions.pop(key)
            delay = rng.uniform(0.5, 3.0) if silently else rng.uniform(0.0005, 0.01)
            self._world.after(delay, lambda c=client, li=line: c.broken(li))
        for client in self._clients:
            line = client.line
            if line is not None and line.host is host and line.session is None and not line.lost:
                self._world.after(1.0, lambda c=client, li=line: c.broken(li))
